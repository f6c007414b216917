"""The record's published schema: complete, described, and true of what is written."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from entries import entry, equivalence, output, whole_variant

import pytest_onnxcheck
from pytest_onnxcheck.measurement import CaseMeasurement, Element
from pytest_onnxcheck.record import schema
from pytest_onnxcheck.record.encoding import as_json
from pytest_onnxcheck.record.record import FORMAT, load, make
from pytest_onnxcheck.record.rows import FrontierRow
from pytest_onnxcheck.verdict import Finding, Grade, Limit

PACKAGE = Path(pytest_onnxcheck.__file__).parent
OLD = Path(__file__).parents[1] / "data" / "record-0.1.0.json"


def written(*entries: Any) -> Any:
    made = make([], frontier=[FrontierRow("fp32", "pass", complete=True, model="net")])
    return json.loads(as_json(dataclasses.replace(made, checks=entries).to_json()))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    made = schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.fixture
def record() -> Any:
    found = entry(
        "latency",
        grade=Grade.WARN,
        findings=(Finding(Grade.WARN, "speed-up", "close"),),
        limits=(Limit("budget.min_speedup.cpu", 1.5, 1.5, True),),
        stages={"export": 1.5, "check": 0.1},
    )
    return written(*whole_variant(), found)


def test_the_schema_in_the_package_is_the_one_of_the_classes():
    shipped = (PACKAGE / "record" / "record.schema.json").read_text(encoding="utf-8")
    assert shipped == schema.text()
    assert json.loads(shipped)["properties"]["format"]["const"] == FORMAT


def test_every_key_is_described():
    made = schema.json_schema()
    properties = {
        f"{name}.{key}": value
        for name, definition in {"Record": made, **made["$defs"]}.items()
        for key, value in definition.get("properties", {}).items()
    }
    assert len(properties) > 250
    assert [key for key, value in properties.items() if not value.get("description")] == []
    assert all(definition.get("description") for definition in made["$defs"].values())


def test_a_key_that_nobody_describes_is_seen():
    @dataclasses.dataclass
    class Undescribed:
        """Has two.

        Attributes:
            one: The first,
                told in two lines.
        """

        one: int
        two: int

    assert schema.attributes(Undescribed) == {"one": "The first, told in two lines."}


def test_what_is_written_is_valid(validator: Any, record: Any):
    validator.validate(record)


def test_a_record_of_an_earlier_version_is_valid(validator: Any):
    validator.validate(json.loads(OLD.read_text()))
    assert load(OLD).checks[0].stages == {}


def test_nan_and_infinity_are_valid(validator: Any):
    worst = (Element((0, 1), math.nan, -math.inf),)
    case = CaseMeasurement("a", (output(max_abs=math.inf, worst=worst),))
    validator.validate(written(entry("equivalence", equivalence(case))))


def test_what_a_project_adds_is_valid(validator: Any, record: Any):
    own = entry("loops", {"nodes": ["a"]}).to_json()
    validator.validate({**record, "build": "117", "checks": json.loads(as_json([own]))})


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ({"format": 2}, "1 was expected"),
        ({"created": None}, "None is not of type 'string'"),
        ({"checks": [{"check": "export"}]}, "'nodeid' is a required property"),
        ({"exitstatus": "0"}, "'0' is not of type 'integer'"),
    ],
)
def test_what_is_wrong_is_said(validator: Any, record: Any, damage: Any, text: str):
    with pytest.raises(jsonschema.ValidationError, match=text):
        validator.validate({**record, **damage})


def test_a_measurement_must_be_that_of_its_check(validator: Any, record: Any):
    latency = next(check for check in record["checks"] if check["check"] == "latency")
    latency["measurement"]["threads"] = "two"
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(record)


def test_no_key_is_written_that_the_schema_does_not_have(record: Any):
    made = schema.json_schema()
    found = list(unknown(record, made, made["$defs"]))
    assert found == []
    record["checks"][0]["surprise"] = 1
    assert list(unknown(record, made, made["$defs"])) == ["checks.surprise"]


def unknown(value: Any, made: Any, definitions: Any, where: str = "") -> Any:
    """Keys of a record that no property of the schema stands for."""
    for option in made.get("anyOf", ()):
        if option.get("$ref") or option.get("type") in ("array", "object"):
            yield from unknown(value, option, definitions, where)
            return
    if "$ref" in made:
        made = definitions[made["$ref"].rpartition("/")[2]]
    if isinstance(value, list):
        for each in value:
            yield from unknown(each, made.get("items", {}), definitions, where)
    elif isinstance(value, dict) and "properties" in made:
        for key, each in value.items():
            place = f"{where}.{key}".lstrip(".")
            if key not in made["properties"]:
                yield place
            elif key == "measurement":
                kind = schema.MEASUREMENTS.get(value["check"])
                if kind is not None and each is not None:
                    yield from unknown(each, definitions[kind.__name__], definitions, place)
            else:
                yield from unknown(each, made["properties"][key], definitions, place)
