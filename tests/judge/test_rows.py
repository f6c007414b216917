"""Examples of a batch: judged red where the whole output is green."""

import pytest

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import BUILTIN_TOLERANCE, Tolerance
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    EquivalenceMeasurement,
    FloorMeasurement,
    OutputMeasurement,
    RowMeasurement,
)
from pytest_onnxcheck.verdict import Grade

INT8 = BUILTIN_TOLERANCE["int8-dynamic"]


def quiet(value, alone=None, metric="rel_rms"):
    return RowMeasurement(metric, 3, value, 0, 0.01, alone)


def output(*rows, rel_rms=0.0125, cosine=0.9999, **more):
    return OutputMeasurement(
        "y", "float32", "float32", (4, 8), (4, 8), 32, rel_rms=rel_rms, cosine=cosine, scale=1.0,
        rows=rows, **more,
    )  # fmt: skip


def judged(*outputs, tolerance=INT8, **more):
    case = CaseMeasurement("case:own", outputs)
    measured = EquivalenceMeasurement("cpu", "CPUExecutionProvider", (case,), **more)
    return judge.equivalence(measured, tolerance).findings


def test_an_example_fails_though_the_whole_output_passes():
    (finding,) = judged(output(quiet(0.405, 0.0035)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "output 'y' rel_rms [case:own]: 0.405 in example 3 of 4 (its inputs are 0.01 of example "
        "0's), pass is at most 0.15, fail beyond 0.35; 0.0125 over the whole output. In a batch "
        "of copies of this example it has 0.0035, so what stands beside it changes it (one scale "
        "for a whole batch does that): run such examples one at a time, bring all to one magnitude "
        "before the model, or use fp16"
    )


def test_an_example_that_is_lost_alone_too_is_told_so():
    (finding,) = judged(output(quiet(0.405, 0.4)))
    assert finding.text.endswith(
        "In a batch of copies of this example it has 0.4, so it is lost whatever stands beside it: "
        "leave the layers that do it in float32 (exclude_nodes), or use a wider precision"
    )


def test_between_the_bounds_it_warns():
    (finding,) = judged(output(quiet(0.2)))
    assert finding.grade is Grade.WARN
    assert finding.text.endswith("; 0.0125 over the whole output")


def test_the_same_in_decibels():
    tolerance = Tolerance.model_validate({"policy": "fixed", "sqnr_db": [30, 20]})
    (finding,) = judged(output(quiet(0.2, 0.01)), tolerance=tolerance)
    assert finding.what == "output 'y' sqnr_db"
    assert finding.text.startswith("13.9794 dB in example 3 of 4 (its inputs are 0.01 of")
    assert (
        "; 38.1 over the whole output. In a batch of copies of this example it has 40, so"
        in finding.text
    )


def test_a_cosine_of_an_example_alone_is_enough():
    tolerance = Tolerance.model_validate({"policy": "fixed", "cosine": [0.99, 0.95]})
    (finding,) = judged(output(quiet(0.9, metric="cosine")), tolerance=tolerance)
    assert finding.text.startswith("0.9 in example 3 of 4 (its inputs are 0.01 of example 0's)")


def test_one_finding_tells_of_both_metrics_and_it_is_the_worse():
    rows = quiet(0.2), quiet(0.9, metric="cosine")
    (finding,) = judged(output(*rows))
    assert (finding.grade, finding.what) == (Grade.FAIL, "output 'y' cosine")


@pytest.mark.parametrize(
    "healthy",
    [
        output(quiet(0.14)),
        output(quiet(0.2), rel_rms=0.11, cosine=0.991),
        output(quiet(0.98, metric="cosine"), cosine=0.991),
    ],
    ids=["within the bound", "as far off as examples differ", "the same of a cosine"],
)
def test_examples_near_the_whole_outputs_numbers_pass(healthy):
    assert judged(healthy) == ()


def test_what_the_whole_output_fails_by_is_told_once():
    (finding,) = judged(output(quiet(0.9), rel_rms=0.4))
    assert "example" not in finding.text


def floored(ratio, row):
    floor = FloorMeasurement("float64", ratio, 1e-4, 1e-4, 1e-3, 1e-3, 1e-7, 0.0, 0, 0, row=row)
    return output(floor=floor)


def test_an_example_beyond_its_own_floors_fails():
    row = RowMeasurement("floors", 3, 606.0, 0, 9.1e-05, 754.0)
    (finding,) = judged(floored(0.2, row), tolerance=BUILTIN_TOLERANCE["fp16"])
    assert (finding.grade, finding.what) == (Grade.FAIL, "output 'y' error")
    assert finding.text == (
        "606 noise floors of its own in example 3 of 4 (its inputs are 9.1e-05 of example 0's), "
        "allowed 8; 0.2 over the whole output. In a batch of copies of this example "
        "it has 754, so it is lost whatever stands beside it"
    )
    within = RowMeasurement("floors", 3, 7.9, 0, 0.01)
    assert judged(floored(0.2, within), tolerance=BUILTIN_TOLERANCE["fp16"]) == ()


# in company


def company(*rows, lenient=None):
    case = CaseMeasurement("quiet beside loud", (output(*rows),), lenient=lenient, probe=True)
    return judged(output(), company=case)


def test_what_is_right_alone_and_wrong_in_company_fails():
    (finding,) = company(quiet(0.405, 0.0035))
    assert (finding.grade, finding.where) == (Grade.FAIL, "quiet beside loud")
    assert "0.405 in example 3 of 4" in finding.text
    assert "In a batch of copies of this example it has 0.0035" in finding.text


def test_without_a_declared_range_it_warns():
    (finding,) = company(quiet(0.405, 0.0035), lenient="no range is declared")
    assert finding.grade is Grade.WARN
    assert finding.text.endswith("; no failure, since no range is declared")
    assert company(quiet(0.2, 0.0035), lenient="no range is declared") == ()
    (finding,) = company(quiet(0.2, 0.0035))
    assert finding.grade is Grade.WARN


def test_what_is_as_wrong_alone_is_not_companys():
    assert company(quiet(0.405, 0.4)) == ()
    assert company(quiet(0.1)) == ()
