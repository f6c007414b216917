"""What each variant costs and loses, which are dominated, and which one is to be released."""

import pytest
from candidates import (
    FP16,
    FP32,
    MB,
    STATIC,
    checks,
    entry,
    equal,
    file,
    only,
    outputs,
    planned,
    read,
    released,
    timed,
)

from pytest_onnxcheck.engine.speed.timing import summarised
from pytest_onnxcheck.judge.frontier import frontiers
from pytest_onnxcheck.measurement import (
    AccuracyMeasurement,
    CaseMeasurement,
    CoverageMeasurement,
    QuantizationMeasurement,
)


def test_a_candidate_has_every_number():
    covered = QuantizationMeasurement(
        *(file(1 * MB), "int8-static", 4 * MB, 1, {}, {}, None, 1.0),
        coverage=CoverageMeasurement(weights=0.9, compute=0.97),
    )
    accuracy = AccuracyMeasurement(
        *("cpu", "CPU", "accuracy", "digits.npz", "ab", 360, 0.98, 0.975, 0.005, 0.0, 0.01, 0.95)
    )
    cases = (
        CaseMeasurement("a", (outputs(0.01, 1.0), outputs(0.1, 0.75, "z"))),
        CaseMeasurement("probe", (outputs(5.0, 0.0),), probe=True),
        CaseMeasurement("lenient", (outputs(5.0, 0.0),), lenient="not made for these"),
        CaseMeasurement("index", (outputs(5.0, None, "i", "int64"),)),
    )
    made = [
        entry("quantization", covered),
        entry("accuracy", accuracy),
        entry("latency", outcome="skipped", target="cuda"),
        timed(2.0, 3.0, onnxruntime=summarised("o", (0.001, 0.002, 0.009)), over_fp32=1.5),
        timed(16.0, 5.0, dims={"batch": 8}),
        equal(*cases),
    ]
    found, by_name = only(
        checks(FP32), checks(STATIC, more=made, without=("export",), latency=None)
    )
    assert (found.target, found.dims, found.point) == ("cpu", {"batch": 1}, "cpu batch=1")
    one = by_name[STATIC]
    assert (one.size_bytes, one.size_ratio) == (1 * MB, 0.25)
    assert one.latency_ms == pytest.approx(2.0)
    assert (one.speedup, one.speedup_over_fp32) == (3.0, 1.5)
    assert (one.rel_rms, one.top1) == (0.1, 0.75)
    assert (one.accuracy_drop, one.coverage) == (0.005, 0.97)
    fp32 = by_name[FP32]
    assert (fp32.size_bytes, fp32.size_ratio) == (4 * MB, 1.0)
    assert (fp32.top1, fp32.accuracy_drop, fp32.coverage) == (None, None, None)


def test_latencies_are_compared_at_one_point():
    later = checks(STATIC, latency=None, more=[timed(0.1, dims={"batch": 8}), timed(3.0)])
    _, by_name = only(checks(FP32), later)
    assert by_name[STATIC].latency_ms == pytest.approx(3.0)
    _, by_name = only(checks(FP32), checks(STATIC, latency=None, more=[timed(1.0, target="cuda")]))
    assert by_name[STATIC].latency_ms is None


@pytest.mark.parametrize(
    ("other", "dominated"),
    [
        ((5 * MB, 5.0, 1e-6), True),  # worse in all
        ((4 * MB, 4.0, 1e-6), True),  # worse in one, equal in the others
        ((4 * MB, 4.0, 1e-7), False),  # equal
        ((3 * MB, 5.0, 1e-6), False),  # better in one
        ((5 * MB, None, 1e-6), False),  # not known
    ],
)
def test_dominated_is_worse_in_one_and_better_in_none(other, dominated):
    _, by_name = only(checks(FP32), checks("torchscript-op20-fp32", *other))
    assert by_name["torchscript-op20-fp32"].dominated_by == (FP32 if dominated else None)
    assert by_name[FP32].dominated_by is None


def test_what_fails_dominates_nothing_and_may_be_dominated():
    better = checks(FP16, 1 * MB, 1.0, 1e-8, more=[entry("own", outcome="failed")])
    _, by_name = only(checks(FP32), better)
    assert (by_name[FP32].dominated_by, by_name[FP16].state) == (None, "FAIL")
    worse = checks(FP16, 5 * MB, 5.0, 1e-3, more=[entry("own", outcome="failed")])
    _, by_name = only(checks(FP32), worse)
    assert by_name[FP16].dominated_by == FP32


def test_the_dominating_variant_named_is_not_dominated_itself():
    _, by_name = only(
        checks("dynamo-op18-fp32", 6 * MB, 6.0), checks(FP16, 5 * MB, 5.0), checks(FP32)
    )
    assert {one.dominated_by for one in by_name.values()} == {FP32, None}


def test_other_models_do_not_dominate():
    entries = read([*checks(FP32), *checks(FP32, 1 * MB, 1.0, 0.0, model="other")])
    found = frontiers(entries)
    assert [one.model for one in found] == ["net", "other"]
    assert found[0].candidates[0].dominated_by is None
    assert [one.model for one in frontiers(entries, "oth*")] == ["other"]


def test_the_fastest_is_released():
    assert released(checks(FP32), checks(FP16, 2 * MB, 5.0), checks(STATIC, 1 * MB, 3.0)) == STATIC
    assert released(checks(FP32), checks(STATIC, 1 * MB, 5.0)) == FP32


def test_speed_is_told_from_the_pytorch_calls_between_and_not_from_a_busy_machine():
    # timed while the machine was quiet
    slow = checks(STATIC, 1 * MB, None, more=[timed(3.0, 1.5)])
    _, by_name = only(checks(FP32, latency=4.0), slow)
    assert by_name[STATIC].latency_ms < by_name[FP32].latency_ms
    assert by_name[FP32].release


def test_speed_is_told_from_the_fp32_artefact_timed_beside_and_not_from_a_slower_pytorch():
    # PyTorch is slower where one more takes turns: 2.5 times against 2.0 times says nothing
    half = checks(FP16, 4 * MB, None, 1e-7, more=[timed(4.2, 2.5, over_fp32=0.9)])
    found, by_name = only(checks(FP32, latency=4.0), half)
    assert (by_name[FP16].speed, by_name[FP16].speedup) == (pytest.approx(1.8), 2.5)
    assert (found.released.variant, by_name[FP16].dominated_by) == (FP32, FP32)
    other = checks("torchscript-op20-fp32", latency=1.0)
    assert only(other, half)[1][FP16].speed == 2.5


def test_of_those_about_as_fast_the_smallest_is_released():
    assert released(checks(FP32, latency=4.0), checks(FP16, 2 * MB, 4.19, 1e-3)) == FP16
    assert released(checks(FP32, latency=4.0), checks(FP16, 2 * MB, 4.21, 1e-3)) == FP32


def test_a_variant_without_a_latency_is_not_released_where_others_have_one():
    # slower than PyTorch, and yet the only one of which anything is known
    slow = checks(FP32, latency=None, more=[timed(16.0)])
    assert released(slow, checks(STATIC, 1 * MB, None)) == FP32


@pytest.mark.parametrize("outcome", ["failed", "xfailed", "xpassed"])
@pytest.mark.parametrize("check", ["export", "equivalence", "latency", "their_own"])
def test_what_fails_or_is_expected_to_is_not_released(check, outcome):
    # also where a warning would show first
    warned = entry("export", grade="warn")
    best = checks(STATIC, 1 * MB, 1.0, more=[entry(check, outcome=outcome), warned])
    assert released(checks(FP32), best) == FP32


@pytest.mark.parametrize("outcome", ["failed", "xfailed"])
@pytest.mark.parametrize("check", ["export", "structure", "equivalence"])
def test_what_was_made_from_an_fp32_artefact_that_fails_is_not_released(check, outcome):
    wrong = checks(FP32, more=[entry(check, outcome=outcome)])
    other = checks("torchscript-op20-fp32")
    found, by_name = only(wrong, checks(STATIC, 1 * MB, 1.0), other)
    assert found.released.variant == "torchscript-op20-fp32"
    assert by_name[STATIC].failed == (f"{check} of {FP32}",)
    slow = checks(FP32, more=[entry("latency", outcome=outcome)])
    assert released(slow, checks(STATIC, 1 * MB, 1.0)) == STATIC


@pytest.mark.parametrize("check", ["structure", "quantization", "equivalence", "accuracy"])
def test_what_was_skipped_on_every_target_is_not_released(check):
    skipped = entry(check, outcome="skipped", target="cuda")
    best = checks(STATIC, 1 * MB, 1.0, more=[skipped], without=(check,))
    assert released(checks(FP32), best) == FP32


def test_a_target_that_is_absent_does_not_stand_in_the_way():
    skipped = [
        entry(check, outcome="skipped", target="cuda") for check in ("equivalence", "latency")
    ]
    best = checks(STATIC, 1 * MB, 1.0, more=skipped)
    assert released(checks(FP32), best) == STATIC


def test_a_speed_budget_that_was_measured_or_is_for_a_target_that_is_absent_is_no_obstacle():
    absent = [entry("equivalence", outcome="skipped", target="cuda")]
    fast = planned(checks(STATIC, 1 * MB, 1.0, more=absent), speed_budget=["cpu", "cuda"])
    assert released(checks(FP32), fast) == STATIC
