"""The schema of a record says what records hold."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import jsonschema
import pytest

from pytest_onnxcheck.cli import main

RECORD = Path(__file__).parent.parent / "data" / "record-0.1.0.json"


@pytest.fixture
def validator(capsys: pytest.CaptureFixture[str]) -> jsonschema.Draft202012Validator:
    assert main(["schema", "--record"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_a_record_fits_it(validator: jsonschema.Draft202012Validator):
    assert list(validator.iter_errors(json.loads(RECORD.read_text()))) == []


def test_what_is_damaged_does_not(validator: jsonschema.Draft202012Validator):
    whole = json.loads(RECORD.read_text())
    place = next(n for n, entry in enumerate(whole["checks"]) if entry["check"] == "export")
    for damage, key in [
        (lambda record: record.update(format=9), "format"),
        (lambda record: record["checks"][place].update(grade="good"), "grade"),
        (
            lambda record: record["checks"][place]["measurement"].update(seconds="long"),
            "measurement",
        ),
    ]:
        broken = copy.deepcopy(whole)
        damage(broken)
        assert [error.path[-1] for error in validator.iter_errors(broken)] == [key]
