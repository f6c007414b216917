"""Sizes that were swept: one finding for all at which the same is wrong."""

import dataclasses

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import BUILTIN_TOLERANCE
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    EquivalenceMeasurement,
    OutputMeasurement,
    SweepMeasurement,
)
from pytest_onnxcheck.verdict import Grade

FINE = CaseMeasurement("draw0", (OutputMeasurement("y", *["float32"] * 2, (2,), (2,), 2, scale=1),))


def wrong(size, case=None):
    shapes = (size,), (size - 1,)
    output = OutputMeasurement("y", "float32", "float32", *shapes, size)
    return CaseMeasurement(
        case or f"sweep:n={size}", (output,), dim="n" if not case else "", size=size
    )


def judged(*cases, ran=tuple(range(16, 121)), **fields):
    sweep = SweepMeasurement("n", 16, 120, fields.pop("step", 1), ran, **fields)
    measured = EquivalenceMeasurement("cpu", "CPU", (FINE, *cases), sweeps=(sweep,))
    return judge.equivalence(measured, BUILTIN_TOLERANCE["fp32"])


def test_sizes_that_fail_are_one_failure_in_the_words_of_the_smallest():
    verdict = judged(*map(wrong, (65, 33, 17, 49)))
    assert verdict.grade is Grade.FAIL
    assert verdict.reason == (
        "output 'y' shape [sweep:n=17]: at n 17, 33, 49 and 65 of 16..120 (all 105 run): [16], "
        "PyTorch gives [17]"
    )
    assert len(verdict.findings) == 1


def test_a_few_sizes_say_more_than_the_case_that_fails_too():
    verdict = judged(wrong(33, "n=33/draw0"), wrong(17), wrong(33))
    assert [finding.where for finding in verdict.findings] == ["sweep:n=17", "n=33/draw0"]


def test_a_failure_at_every_size_is_told_after_the_case_that_fails_too():
    verdict = judged(wrong(2, "draw1"), wrong(17), wrong(18), ran=(17, 18))
    assert [finding.where for finding in verdict.findings] == ["draw1", "sweep:n=17"]
    assert "at n 17 and 18 of 16..120 (2 of 105 run)" in verdict.findings[1].text


def test_what_differs_in_another_way_is_another_failure():
    error = CaseMeasurement("sweep:n=20", error="no", dim="n", size=20)
    verdict = judged(wrong(17), error)
    assert [finding.what for finding in verdict.findings] == ["output 'y' shape", "run"]
    assert verdict.findings[1].text == "at n 20 of 16..120 (all 105 run): no"


def test_sizes_that_only_warn_are_one_warning():
    lenient = [dataclasses.replace(wrong(size), lenient="nobody runs it here") for size in (17, 33)]
    verdict = judged(*lenient)
    assert verdict.grade is Grade.WARN
    assert verdict.reason == (
        "output 'y' shape [sweep:n=17]: at n 17 and 33 of 16..120 (all 105 run): [16], PyTorch "
        "gives [17]; no failure, since nobody runs it here"
    )
    assert len(verdict.findings) == 1


def test_warnings_do_not_count_as_sizes_that_fail():
    lenient = dataclasses.replace(wrong(17), lenient="nobody runs it here")
    fails, warns = judged(lenient, wrong(33)).findings
    assert (fails.grade, warns.grade) == (Grade.FAIL, Grade.WARN)
    assert fails.text.startswith("at n 33 of ")
    assert warns.text.startswith("at n 17 of ")


def test_a_sweep_that_was_stopped_says_so_and_blames_no_budget():
    ran = tuple(range(16, 41))
    verdict = judged(*map(wrong, range(17, 41)), ran=ran, ranged=True, stopped=24)
    assert verdict.reason == (
        "output 'y' shape [sweep:n=17]: at n 17..40 of 16..120 (25 of 105 run, stopped after 24 "
        "that are off): [16], PyTorch gives [17]"
    )
    remark = verdict.findings[-1]
    assert str(remark) == ("dim 'n': 16..120 (25 of 105 run, stopped after 24 that are off)")


def test_sizes_in_steps_follow_one_another():
    ran = tuple(range(16, 121, 8))
    verdict = judged(*map(wrong, (24, 32, 40, 64)), ran=ran, step=8)
    assert "at n 24..40 and 64 of 16..120 in steps of 8 (all 14 run): " in verdict.reason


def test_a_range_that_was_not_run_in_full_is_told():
    verdict = judged(ran=tuple(range(16, 50)), ranged=True, refused=3)
    assert verdict.grade is Grade.PASS
    assert verdict.reason == (
        "dim 'n': 16..120 (34 of 105 run), as many as probe_seconds allow; PyTorch refuses 3 more"
    )
    assert judged(ran=tuple(range(16, 50))).findings == ()
    assert judged(ranged=True).findings == ()
