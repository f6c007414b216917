"""Verdicts on speed: against PyTorch, and against the fp32 artefact."""

from __future__ import annotations

import dataclasses
import math

import pytest

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.measurement import LatencyMeasurement, Timing
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

MEASURED = LatencyMeasurement(
    target="cpu",
    provider="CPUExecutionProvider",
    dims={"batch": 1},
    threads=1,
    boundary="host to host",
    torch=Timing("torch", (0.002, 0.004, 0.003)),
    onnxruntime=Timing("onnxruntime", (0.001, 0.002, 0.003)),
    speedup=1.49,
    load_seconds=0.1,
    interval=(1.45, 1.499),
)
QUANTIZED = dataclasses.replace(
    MEASURED,
    fp32=Timing("onnxruntime fp32", (0.001, 0.0015, 0.002)),
    speedup_over_fp32=0.75,
    interval_over_fp32=(0.7, 0.8),
)


def latency(
    measured: LatencyMeasurement = MEASURED, budget: Budget | None = None, precision: str = "fp32"
) -> Verdict:
    return judge.latency(measured, precision, budget or Budget())


def only(verdict: Verdict) -> Finding:
    (finding,) = verdict.findings
    return finding


def test_a_speed_up_below_what_is_asked_for_fails():
    finding = only(latency(budget=Budget(min_speedup={"cpu": 1.5})))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "speed-up: 1.49 times PyTorch (3.00 ms / 2.00 ms, median of 3 interleaved rounds, "
        "99% interval [1.45, 1.50], 1 thread a side, host to host), asked for at least 1.5 "
        "(budget.min_speedup.cpu)"
    )


def test_the_speed_up_asked_for_passes():
    assert latency(budget=Budget(min_speedup={"cpu": 1.49})).findings == ()


def test_a_speed_up_that_noise_may_have_lowered_warns():
    noisy = dataclasses.replace(MEASURED, interval=(1.3, 1.7))
    finding = only(latency(noisy, Budget(min_speedup={"cpu": 1.5})))
    assert finding.grade is Grade.WARN
    assert str(finding).endswith("(budget.min_speedup.cpu); noise: too close to tell")


@pytest.mark.parametrize("interval", [None, (math.nan, math.nan)])
def test_a_speed_up_that_is_not_a_number_fails(interval: tuple[float, float] | None):
    strange = dataclasses.replace(MEASURED, speedup=math.nan, interval=interval)
    assert latency(strange, Budget(min_speedup={"cpu": 1.5})).grade is Grade.FAIL


def test_speed_without_a_budget_for_the_target_passes():
    assert latency().findings == ()
    assert latency(budget=Budget(min_speedup={"cuda": 2.0})).findings == ()


def test_a_variant_slower_than_fp32_fails_its_speed_budget_though_it_beats_pytorch():
    finding = only(latency(QUANTIZED, Budget(min_speedup={"cpu": 1.0}), "int8-dynamic"))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "speed-up: 0.75 times the fp32 artefact (1.50 ms / 2.00 ms, median of 3 interleaved "
        "rounds, 99% interval [0.70, 0.80], 1 thread a side, host to host), slower than fp32: "
        "release that one, or allow it (budget.min_speedup_over_fp32.cpu, 1 where "
        "budget.min_speedup is given)"
    )


def test_a_variant_faster_than_fp32_meets_a_speed_budget():
    faster = dataclasses.replace(QUANTIZED, speedup_over_fp32=1.0, interval_over_fp32=(0.9, 1.1))
    assert latency(faster, Budget(min_speedup={"cpu": 1.0}), "int8-dynamic").findings == ()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(7.12e-6, "0.00712 ms"), (0.9997, "1000 ms"), (1.5, "1500 ms")]
)
def test_times_have_three_digits(seconds, shown):
    quick = dataclasses.replace(MEASURED, onnxruntime=Timing("onnxruntime", (seconds,)))
    finding = only(latency(quick, Budget(min_speedup={"cpu": 1.5})))
    assert f"(3.00 ms / {shown}, median of 1 " in str(finding)


def test_being_slower_than_fp32_can_be_allowed():
    budget = Budget(min_speedup={"cpu": 1.0}, min_speedup_over_fp32={"cpu": 0.7})
    assert latency(QUANTIZED, budget, "int8-dynamic").findings == ()


def test_a_speed_up_over_fp32_can_be_asked_for():
    budget = Budget(min_speedup_over_fp32={"cpu": 2.0})
    finding = only(latency(QUANTIZED, budget, "int8-static"))
    assert finding.grade is Grade.FAIL
    assert "asked for at least 2 (budget.min_speedup_over_fp32.cpu)" in str(finding)


def test_int8_slower_than_fp32_without_a_budget_warns():
    finding = only(latency(QUANTIZED, precision="int8-dynamic"))
    assert finding.grade is Grade.WARN
    assert "int8-dynamic makes it slower here" in str(finding)


def test_fp16_is_slower_on_a_cpu_by_nature():
    assert latency(QUANTIZED, precision="fp16").findings == ()


def test_a_slowness_within_noise_is_not_told_without_a_budget():
    noisy = dataclasses.replace(QUANTIZED, interval_over_fp32=(0.7, 1.1))
    assert latency(noisy, precision="int8-dynamic").findings == ()
