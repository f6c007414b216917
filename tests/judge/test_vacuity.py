"""A pass that says nothing is warned about, and red with `--onnxcheck-strict`."""

import dataclasses

import pytest
from entries import entry
from entries import output as measured_output
from helpers import only

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import FIXED_TOLERANCE, NOISE_FLOOR, Tolerance
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    EquivalenceMeasurement,
    FloorMeasurement,
    HeldTo,
)
from pytest_onnxcheck.verdict import Grade

FLOOR = FloorMeasurement("float64", 0.5, 1e-6, 5e-7, 1e-6, 5e-7, 1e-6, 0.0, 0, 0)


def output(**changes):
    exact = {"max_abs": 0.0, "mean_abs": 0.0, "mse": 0.0, "max_rel": 0.0, "cosine": 1.0}
    facts = {"lowest": -4.0, "highest": 4.0, "rel_rms": 0.0, "floor": FLOOR, **exact, **changes}
    return measured_output(**facts)


def measured(*outputs, **changes):
    cases = tuple(CaseMeasurement(f"draw{i}", (each,)) for i, each in enumerate(outputs))
    return EquivalenceMeasurement("cpu", "CPUExecutionProvider", cases, **changes)


def inconclusive(verdict):
    """The one finding, which warns, and fails where it must be told."""
    finding = only(verdict)
    assert finding.grade is Grade.WARN
    assert verdict.strict().grade is Grade.FAIL
    return finding


def test_an_output_near_zero_and_one_that_is_empty_are_red_when_strict():
    zero = output(scale=1e-31, lowest=0.0, highest=1e-31)
    verdict = judge.equivalence(measured(zero), NOISE_FLOOR)
    assert "vacuous: |PyTorch| is at most 1e-31" in inconclusive(verdict).text
    empty = output(name="boxes", elements=0, expected_shape=(0, 2), actual_shape=(0, 2))
    both = CaseMeasurement(
        "draw0", (output(), dataclasses.replace(empty, lowest=None, highest=None, floor=None))
    )
    whole = dataclasses.replace(measured(), cases=(both,))
    assert "nothing was compared" in inconclusive(judge.equivalence(whole, NOISE_FLOOR)).text


def test_an_output_that_never_changes_is_told_once():
    found = measured(output(), unvarying=("y",))
    text = inconclusive(judge.equivalence(found, NOISE_FLOOR)).text
    assert text.startswith("vacuous: PyTorch gives the same in every case, whatever it is fed")
    zero = measured(output(scale=0.0, lowest=0.0, highest=0.0), unvarying=("y",))
    assert "is at most 0" in inconclusive(judge.equivalence(zero, NOISE_FLOOR)).text


#: bounds -> whether a constant in the place of an output of 99 to 101 would pass
WIDE = {
    "max_abs": ({"max_abs": 3}, True),
    "max_abs, narrow": ({"max_abs": 1}, False),
    "rel_rms": ({"rel_rms": 0.1}, True),
    "rel_rms, narrow": ({"rel_rms": 0.01}, False),
    "sqnr_db": ({"sqnr_db": 20}, True),
    "sqnr_db, narrow": ({"sqnr_db": 60}, False),
    "mse": ({"mse": 5}, True),
    "mse, narrow": ({"mse": 1}, False),
    "allclose": ({"rtol": 0.1, "atol": 0.0}, True),
    "allclose, narrow": ({"rtol": 0.01, "atol": 0.0}, False),
    "cosine tells": ({"max_abs": 3, "cosine": 0.9}, False),
    "nothing": ({}, True),
    "one of two": ({"max_abs": 3, "rel_rms": 0.01}, False),
}


@pytest.mark.parametrize("name", WIDE)
def test_a_tolerance_wider_than_the_outputs_own_range_is_told(name):
    bounds, wide = WIDE[name]
    offset = output(scale=101.0, lowest=99.0, highest=101.0)
    verdict = judge.equivalence(measured(offset), Tolerance(policy="fixed", **bounds))
    if not wide:
        assert verdict.findings == ()
        return
    text = inconclusive(verdict).text
    assert text.startswith("vacuous: PyTorch gives 99 to 101, and what is allowed is wider than")


def test_the_range_is_that_of_all_declared_cases_and_of_no_probe():
    one, other = output(lowest=1.0, highest=1.0), output(lowest=5.0, highest=5.0)
    tolerance = Tolerance(policy="fixed", max_abs=3)
    assert judge.equivalence(measured(one, other), tolerance).findings == ()
    probe = CaseMeasurement("probe:x1000", (output(lowest=-1e6, highest=1e6),), probe=True)
    near = measured(output(scale=5.0, lowest=4.0, highest=5.0))
    near = dataclasses.replace(near, cases=(*near.cases, probe))
    assert "gives 4 to 5" in inconclusive(judge.equivalence(near, tolerance)).text


def test_a_safety_that_reaches_over_the_output_is_told():
    wide = NOISE_FLOOR.model_copy(update={"safety": 1e9})
    assert "wider than" in inconclusive(judge.equivalence(measured(output()), wide)).text
    assert judge.equivalence(measured(output()), NOISE_FLOOR).findings == ()


@pytest.mark.parametrize("precision", FIXED_TOLERANCE)
def test_what_holds_by_default_is_not_wide(precision):
    scores = output(scale=0.52, lowest=0.48, highest=0.52)
    verdict = judge.equivalence(measured(scores), FIXED_TOLERANCE[precision])
    assert verdict.findings == ()


def test_a_manifest_that_draws_nothing_and_sweeps_nothing_is_told():
    held = HeldTo(cases=1, probes=0, unprobed="draws is 0", drawn=False)
    text = inconclusive(judge.equivalence(measured(output(), held_to=held), NOISE_FLOOR)).text
    assert text.startswith("nothing but 1 case of the manifest's own was compared: draws is 0")
    for changes in ({"drawn": True}, {"sizes": 3}, {"probes": 1}):
        enough = dataclasses.replace(held, **changes)
        found = judge.equivalence(measured(output(), held_to=enough), NOISE_FLOOR)
        assert found.findings == ()


def skipped(model, *reasons):
    return [entry("equivalence", model=model, outcome="skipped", reason=each) for each in reasons]


def test_models_of_which_every_check_was_skipped_are_named():
    ran = [entry("structure", model="half"), *skipped("half", "no cuda")]
    entries = [*ran, *skipped("none", "no cuda", "no npu"), *skipped("known", "broken")]
    found = judge.unchecked(entries, lambda each: {"broken"})
    assert found == {"none": "all 2 checks were skipped, the first because: no cuda"}
    assert "known" in judge.unchecked(entries, lambda each: ())
