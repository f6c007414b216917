"""What one check found, to JSON and back."""

from __future__ import annotations

import dataclasses
import math

import pytest
from entries import (
    LATENCY,
    MUTATION,
    STRUCTURE,
    entry,
    equivalence,
    output,
    read_back,
    whole_variant,
)

from pytest_onnxcheck.measurement import CaseMeasurement, Element
from pytest_onnxcheck.record.entry import Entry, Planned
from pytest_onnxcheck.verdict import Finding, Grade, Limit

FOUND = Entry(
    nodeid="models.toml::net::dynamo-op20-fp32::test_latency[cpu-batch1]",
    manifest="models.toml",
    position=(3, 0, 1),
    planned=Planned(2, 7, ("cpu",)),
    model="net",
    variant="dynamo-op20-fp32",
    precision="fp32",
    exporter="dynamo",
    opset=20,
    check="latency",
    target="cpu",
    point="cpu-batch1",
    outcome="failed",
    seconds=1.5,
    stages={"export": 2.0, "check": 1.5},
    limits=(Limit("budget.min_speedup.cpu", 1.5, 1.5, True),),
    grade=Grade.FAIL,
    reason="speed-up: too slow",
    findings=(Finding(Grade.FAIL, "speed-up", "too slow", "cpu", inconclusive=True),),
    measurement=LATENCY,
)


def test_an_entry_comes_back_as_it_was():
    assert read_back([FOUND]) == [FOUND]
    assert read_back(whole_variant()) == whole_variant()


def test_an_entry_in_json():
    written = FOUND.to_json()
    measured = written.pop("measurement")
    assert measured == {
        **dataclasses.asdict(LATENCY),
        "speedup": LATENCY.speedup,
        "speedup_over_fp32": None,
        "throughput": LATENCY.throughput,
    }
    assert written == {
        "nodeid": "models.toml::net::dynamo-op20-fp32::test_latency[cpu-batch1]",
        "manifest": "models.toml",
        "position": [3, 0, 1],
        "planned": {"variants": 2, "checks": 7, "speed_budget": ["cpu"]},
        "model": "net",
        "variant": "dynamo-op20-fp32",
        "precision": "fp32",
        "exporter": "dynamo",
        "opset": 20,
        "check": "latency",
        "target": "cpu",
        "environment": {},
        "point": "cpu-batch1",
        "outcome": "failed",
        "expected_failure": None,
        "seconds": 1.5,
        "stages": {"export": 2.0, "check": 1.5},
        "limits": [
            {
                "key": "budget.min_speedup.cpu",
                "passes": 1.5,
                "fails": 1.5,
                "larger_is_better": True,
            }
        ],
        "grade": "fail",
        "reason": "speed-up: too slow",
        "findings": [
            {
                "grade": "fail",
                "what": "speed-up",
                "text": "too slow",
                "where": "cpu",
                "inconclusive": True,
                "longer": False,
            }
        ],
        "resumed": False,
    }


def test_an_entry_without_a_verdict_says_nothing_of_one():
    skipped = entry("export", outcome="skipped", reason="not today")
    written = skipped.to_json()
    assert not {"grade", "findings", "measurement"} & written.keys()
    assert read_back([skipped]) == [skipped]


def test_infinity_in_a_measurement_is_a_number_again():
    worst = (Element((0, 1), 3, math.inf),)
    case = CaseMeasurement("a", (output(max_abs=math.inf, worst=worst),))
    (found,) = read_back([entry("equivalence", equivalence(case))])
    assert found.measurement == equivalence(case)
    assert type(found.measurement.cases[0].outputs[0].worst[0].expected) is int


@dataclasses.dataclass(frozen=True)
class Loops:
    nodes: tuple[str, ...]


@pytest.mark.parametrize("check", ["has_no_loop", "structure"])
def test_a_projects_own_measurement_stays_a_dict(check: str):
    (found,) = read_back([entry(check, Loops(("a", "b")))])
    assert found.measurement == {"nodes": ["a", "b"]}


def test_a_measurement_with_keys_of_a_later_version_is_read():
    written = entry("structure", STRUCTURE).to_json()
    written["measurement"]["later"] = 3
    assert Entry.from_json(written).measurement == STRUCTURE


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ("dynamo-op20-int8-static", ("dynamo", 20, "int8-static")),
        ("torchscript-op17-fp32", ("torchscript", 17, "fp32")),
        ("file-int4-weight", ("file", None, "int4-weight")),
        ("ours", ("", None, "")),
    ],
)
def test_what_an_earlier_version_did_not_write_is_in_the_names(variant: str, expected: object):
    written = entry("latency", MUTATION, variant=variant).to_json()
    for key in ("exporter", "opset", "precision", "point", "planned"):
        del written[key]
    written["nodeid"] = f"b[1]/models.toml::net::{variant}::test_latency[cpu-batch1]"
    found = Entry.from_json(written)
    assert (found.exporter, found.opset, found.precision) == expected
    assert (found.point, found.planned) == ("cpu-batch1", Planned())
    written["nodeid"] = f"b[1]/models.toml::net::{variant}::test_export"
    assert Entry.from_json(written).point == ""


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"outcome": 3}, "outcome: Input should be a valid string"),
        ({"grade": "fine"}, "grade: Input should be"),
        ({"findings": [{"grade": "bad", "what": "a", "text": "b"}]}, "findings.0.grade: "),
        ({"findings": None}, "findings: "),
        ({"findings": [3]}, "findings.0: "),
        (
            {"measurement": dataclasses.asdict(LATENCY) | {"threads": "many"}},
            "measurement.threads: Input should be a valid integer",
        ),
    ],
)
def test_what_is_no_entry_says_what_is_wrong(change: dict[str, object], text: str):
    with pytest.raises(ValueError, match=f"^{text}"):
        Entry.from_json(FOUND.to_json() | change)


@pytest.mark.parametrize(
    ("outcome", "grade", "state"),
    [
        ("passed", Grade.PASS, "passed"),
        ("passed", Grade.WARN, "warn"),
        ("passed", None, "passed"),
        ("failed", Grade.WARN, "failed"),
        ("xfailed", Grade.FAIL, "xfailed"),
    ],
)
def test_the_state_is_the_outcome_or_a_warning(outcome: str, grade: Grade | None, state: str):
    assert entry("export", outcome=outcome, grade=grade).state == state


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"limits": [{"key": "safety", "passes": 8, "fails": 8}]}, "limits: 'safety' is no key"),
        ({"ratios": {}}, "ratios: there is none to torch"),
    ],
)
def test_an_entry_that_cannot_have_been_written_is_refused(change, text):
    written = entry("latency", LATENCY).to_json()
    if "ratios" in change:
        written["measurement"] = {**written["measurement"], **change}
    else:
        written |= change
    with pytest.raises(ValueError, match=text):
        Entry.from_json(written)
