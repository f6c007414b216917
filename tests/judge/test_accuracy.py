"""Judging a task metric: three outcomes, and no pass that the samples cannot carry."""

import dataclasses

import pytest

from pytest_onnxcheck import judge
from pytest_onnxcheck.measurement import AccuracyMeasurement
from pytest_onnxcheck.verdict import Grade

MEASURED = AccuracyMeasurement(
    target="cpu",
    provider="CPUExecutionProvider",
    metric="accuracy",
    data="digits.npz",
    sha256="ab" * 32,
    samples=600,
    torch=0.975,
    onnxruntime=0.9733,
    drop=0.0017,
    low=-0.0017,
    high=0.005,
    confidence=0.95,
    changed=3,
    baseline=0.1,
)
NUMBERS = (
    "accuracy: 0.9733 (PyTorch 0.9750), drop 0.0017, 95% interval [-0.0017, 0.0050] of 600 "
    "samples, 3 predicted otherwise"
)


def judged(max_drop=0.005, **changes):
    """The only finding on a measurement."""
    (finding,) = judge.accuracy(dataclasses.replace(MEASURED, **changes), max_drop).findings
    return finding


def unchanged(**changes):
    """What is measured where no prediction changed."""
    same = {"onnxruntime": 0.975, "drop": 0.0, "low": 0.0, "high": 0.0, "changed": 0}
    return {**same, **changes}


def test_without_a_bound_the_numbers_are_told():
    finding = judged(max_drop=None, low=0.3, high=0.5)
    assert finding.grade is Grade.PASS
    assert str(finding).startswith("accuracy: 0.9733 (PyTorch 0.9750), drop 0.0017, 95% interval")
    assert "allowed" not in str(finding)


def test_draws_that_were_left_out_are_told():
    text = judged(undefined=7).text
    assert "3 predicted otherwise, 7 draws left out, on which it is undefined, allowed" in text


def test_an_interval_below_what_is_allowed_passes():
    finding = judged()
    assert finding.grade is Grade.PASS
    assert str(finding) == f"{NUMBERS}, allowed 0.005 (accuracy.max_drop)"


def test_an_interval_above_what_is_allowed_fails():
    finding = judged(drop=0.02, low=0.0051, high=0.035)
    assert finding.grade is Grade.FAIL
    assert "drop 0.0200, 95% interval [0.0051, 0.0350] of 600 samples" in str(finding)
    assert str(finding).endswith("allowed 0.005 (accuracy.max_drop)")
    assert judged(drop=0.02, low=0.005, high=0.035).grade is Grade.WARN


def test_an_interval_across_what_is_allowed_warns_and_says_how_many_samples_would_tell():
    # its half of 0.006 must shrink to the 0.003 between the drop and what is allowed
    finding = judged(drop=0.002, low=-0.004, high=0.008)
    assert finding.grade is Grade.WARN
    assert str(finding).endswith(
        "(accuracy.max_drop): too few samples to tell; about 2,400 would, if the drop stays as it "
        "is"
    )
    worse = judged(drop=0.008, low=0.002, high=0.02)
    assert (worse.grade, "about 2,400 would" in worse.text) == (Grade.WARN, True)


def test_no_number_of_samples_tells_a_drop_from_itself():
    finding = judged(drop=0.005, low=0.001, high=0.008)
    assert finding.grade is Grade.WARN
    assert str(finding).endswith("too few samples to tell, and the drop is just what is allowed")


def test_few_samples_without_a_change_warn_although_their_interval_is_a_point():
    finding = judged(**unchanged(samples=360))
    assert finding.grade is Grade.WARN
    assert str(finding).endswith(
        "too few samples to tell: a drop of 0.005 would show in none of 360 with probability 0.17; "
        "give at least 600"
    )
    assert judged(**unchanged(samples=599)).grade is Grade.WARN
    assert judged(**unchanged(samples=600)).grade is Grade.PASS
    assert judged(max_drop=0.05, **unchanged(samples=60)).grade is Grade.PASS
    # surer intervals take more of them
    assert judged(**unchanged(samples=900, confidence=0.99)).grade is Grade.WARN
    assert judged(**unchanged(samples=930, confidence=0.99)).grade is Grade.PASS


def test_the_number_that_would_tell_is_never_below_the_one_that_shows_a_change():
    # the interval alone would ask for 26 samples
    finding = judged(samples=20, drop=-0.05, low=-0.15, high=0.006, max_drop=0.005)
    assert "about 600 would" in finding.text


@pytest.mark.parametrize("max_drop", [1e-12, 1e-200, 1e-320])
def test_a_drop_too_small_to_show_says_so(max_drop):
    told = f"a drop of {max_drop:g} takes more samples to show than there are; allow a larger one"
    for changes in ({}, unchanged(), {"metric": "m.py:f", **unchanged(changed=None)}):
        finding = judged(max_drop=max_drop, **changes)
        assert finding.grade is Grade.WARN
        assert finding.text.endswith(f"{told}, or 0 (nothing is lost on these samples)")
    mse = {"metric": "mse", "changed": None, "baseline": None, "drop": 0.0, "high": 1.0}
    assert "the drop is just what is allowed" in judged(max_drop=max_drop, **mse).text
    assert judged(max_drop=max_drop, low=0.001).grade is Grade.FAIL


def test_a_drop_of_zero_passes_where_nothing_was_lost():
    assert judged(max_drop=0, **unchanged(samples=10)).grade is Grade.PASS
    assert judged(max_drop=0, drop=-0.01, low=-0.02, high=0.01).grade is Grade.PASS
    assert judged(max_drop=0, drop=0.02, low=0.001, high=0.03).grade is Grade.FAIL
    finding = judged(max_drop=0)
    assert finding.grade is Grade.WARN
    assert finding.text.endswith(
        "allowed 0 (accuracy.max_drop): the loss may be chance, and no number of samples proves "
        "that nothing at all is lost: allow a drop"
    )


def test_a_squared_error_needs_no_changed_prediction():
    mse = {"metric": "mse", "changed": None, "torch": 12.3456, "baseline": 80.0}
    finding = judged(samples=20, drop=0.001, low=0.001, high=0.001, **mse)
    assert finding.grade is Grade.PASS
    assert "(PyTorch 12.35), drop 0.001, 95% interval [0.001, 0.001] of 20 samples," in str(finding)


@pytest.mark.parametrize(("low", "grade"), [(0.0, Grade.WARN), (-0.01, Grade.PASS)])
def test_a_metric_of_your_own_that_no_draw_moved_needs_enough_samples(low, grade):
    own = {"metric": "nets.py:own", "changed": None, "baseline": None}
    finding = judged(samples=20, drop=0.0, low=low, high=0.0, **own)
    assert finding.grade is grade
    assert str(finding).startswith("nets.py:own: ")


def test_a_pytorch_that_knows_nothing_cannot_lose_anything():
    measured = dataclasses.replace(MEASURED, **unchanged(torch=0.1, onnxruntime=0.1))
    verdict = judge.accuracy(measured, 0.005)
    assert verdict.grade is Grade.WARN
    assert verdict.reason == (
        "accuracy: PyTorch itself scores 0.1000, and always answering the most frequent class "
        "0.1000: nothing can be lost that is not there. Look at the checkpoint, and at the order "
        "and numbering of the labels"
    )
    error = dataclasses.replace(measured, metric="mse", changed=None, torch=2.0, baseline=1.0)
    assert "always answering the mean label 1:" in judge.accuracy(error, None).reason
    level = dataclasses.replace(error, torch=1.0)
    assert judge.accuracy(level, None).grade is Grade.WARN
    better = dataclasses.replace(error, torch=0.5)
    assert judge.accuracy(better, None).grade is Grade.PASS
