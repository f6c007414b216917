"""Verdicts on time and memory: against PyTorch, against the fp32 artefact, and absolutely."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
from helpers import only

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine.speed.timing import summarised
from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.measurement import LatencyMeasurement, Ratio
from pytest_onnxcheck.verdict import Grade, Verdict


def ratio(value: float, low: float, high: float, interrupted: float = 0.0) -> Ratio:
    return Ratio(value, low, high, "processor", value, 3, interrupted)


MEASURED = LatencyMeasurement(
    target="cpu",
    provider="CPUExecutionProvider",
    dims={"batch": 4},
    threads=1,
    boundary="host to host",
    torch=summarised("torch", (0.002, 0.004, 0.003)),
    onnxruntime=summarised("onnxruntime", (0.001, 0.002, 0.003)),
    load_seconds=0.1,
    load_interval=(0.08, 0.12),
    seconds=6.01,
    items=4,
    memory_bytes=50_000_000,
    ratios={"torch": ratio(1.44, 1.41, 1.46)},
)


def over_torch(value: float, low: float, high: float, **changes: Any) -> LatencyMeasurement:
    ratios = {"torch": ratio(value, low, high, **changes)}
    return dataclasses.replace(MEASURED, ratios=ratios)


def over_fp32(value: float, low: float, high: float) -> LatencyMeasurement:
    return dataclasses.replace(
        MEASURED,
        fp32=summarised("onnxruntime fp32", (0.001, 0.0015, 0.002)),
        ratios={**MEASURED.ratios, "fp32": ratio(value, low, high)},
    )


QUANTIZED = over_fp32(0.75, 0.7, 0.8)


def latency(
    measured: LatencyMeasurement = MEASURED, budget: Budget | None = None, precision: str = "fp32"
) -> Verdict:
    return judge.latency(measured, precision, budget or Budget())


def outcome(verdict: Verdict) -> str:
    """What becomes of a verdict with at most one finding."""
    if not verdict.findings:
        return "pass"
    finding = only(verdict)
    if finding.inconclusive:
        assert finding.grade is Grade.WARN
        assert verdict.strict().grade is Grade.FAIL
        return "inconclusive"
    return str(finding.grade)


def test_a_speed_up_below_what_is_asked_for_fails():
    finding = only(latency(budget=Budget(min_speedup={"cpu": 1.5})))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "speed-up: 1.44 times PyTorch (3.00 ms / 2.00 ms, median of 3 interleaved rounds, "
        "processor time, 99% interval [1.41, 1.46], 1 thread a side, host to host), asked for at "
        "least 1.5 (budget.min_speedup.cpu)"
    )


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((1.6, 1.5, 1.7), "pass"),
        ((1.49, 1.48, 1.499), "pass"),  # two sessions of one artefact differ as much
        ((1.6, 1.46, 1.7), "inconclusive"),
        ((1.44, 1.4, 1.48), "inconclusive"),
        ((1.44, 1.4, 1.46), "fail"),
    ],
)
def test_a_speed_up_is_reached_missed_or_too_close_to_tell(interval, expected):
    assert outcome(latency(over_torch(*interval), Budget(min_speedup={"cpu": 1.5}))) == expected


def test_a_speed_up_that_is_too_close_to_tell_says_what_to_do():
    noisy = over_torch(1.49, 1.3, 1.7, interrupted=0.25)
    verdict = latency(noisy, Budget(min_speedup={"cpu": 1.5}))
    assert not verdict.decided
    assert str(only(verdict)).endswith(
        "(budget.min_speedup.cpu); too close to tell after 6 s, 25% of the rounds were "
        "interrupted: measure on a quiet machine, or set the bar at least 10% off what you "
        "measured"
    )


def test_a_speed_up_of_interrupted_rounds_cannot_fail():
    interrupted = dataclasses.replace(ratio(0.5, 0.4, 0.6, 0.9), clock="wall", sure=False)
    measured = dataclasses.replace(MEASURED, ratios={"torch": interrupted})
    verdict = latency(measured, Budget(min_speedup={"cpu": 1.5}))
    assert outcome(verdict) == "inconclusive"
    assert not verdict.decided
    assert "90% of the rounds were interrupted" in verdict.reason


def test_absolute_times_of_interrupted_rounds_cannot_fail():
    own = dataclasses.replace(HUNDREDS.onnxruntime, interrupted=0.6)
    noisy = dataclasses.replace(HUNDREDS, onnxruntime=own)
    for budget in (Budget(max_p95_ms={"cpu": 1}), Budget(min_throughput={"cpu": 1000})):
        verdict = latency(noisy, budget)
        assert outcome(verdict) == "inconclusive"
        assert not verdict.decided
        assert "60% of the rounds were interrupted" in verdict.reason
    assert latency(noisy, Budget(max_p95_ms={"cpu": 99})).findings == ()


def test_a_twentieth_of_interrupted_calls_is_the_p95():
    own = dataclasses.replace(HUNDREDS.onnxruntime, interrupted=0.06)
    noisy = dataclasses.replace(HUNDREDS, onnxruntime=own)
    verdict = latency(noisy, Budget(max_p95_ms={"cpu": 60}))  # the median is 50 ms
    assert outcome(verdict) == "inconclusive"
    assert "6% of the rounds were interrupted" in verdict.reason
    # six calls in a hundred are not why half of them are too slow
    assert outcome(latency(noisy, Budget(max_p95_ms={"cpu": 10}))) == "fail"
    assert outcome(latency(noisy, Budget(min_throughput={"cpu": 1e9}))) == "fail"


@pytest.mark.parametrize("interval", [(0.985, 0.983, 0.987), (0.975, 0.97, 0.979)])
def test_a_lower_bar_never_makes_a_failure_of_a_pass(interval):
    bars = (1.2, 1.0, 0.99, 0.97, 0.9, 0.5)
    order = {"fail": 0, "inconclusive": 1, "pass": 2}
    found = [
        order[outcome(latency(over_torch(*interval), Budget(min_speedup={"cpu": bar})))]
        for bar in bars
    ]
    assert found == sorted(found)
    assert (found[0], found[-1]) == (0, 2)


def test_more_threads_are_told():
    two = dataclasses.replace(MEASURED, threads=2)
    finding = only(latency(two, Budget(min_speedup={"cpu": 1.5})))
    assert "2 threads a side" in finding.text


def test_a_speed_up_that_is_not_a_number_fails():
    strange = over_torch(math.nan, math.nan, math.nan)
    assert latency(strange, Budget(min_speedup={"cpu": 1.5})).grade is Grade.FAIL


def test_speed_without_a_budget_for_the_target_passes():
    assert latency().findings == ()
    assert latency(budget=Budget(min_speedup={"cuda": 2.0})).findings == ()


def test_being_slower_than_pytorch_is_told_until_the_manifest_states_it():
    slow = over_torch(0.8, 0.79, 0.81)
    finding = only(latency(slow))
    assert (finding.grade, finding.inconclusive) == (Grade.WARN, False)
    assert "0.80 times PyTorch" in finding.text
    assert "ONNX Runtime is slower than PyTorch here. Set budget.min_speedup.cpu" in finding.text
    assert latency(slow, Budget(min_speedup={"cpu": 0.7})).findings == ()
    assert latency(over_torch(0.95, 0.89, 1.01)).findings == ()
    assert latency(slow, precision="fp16").findings == ()  # by nature, on a CPU
    gpu = dataclasses.replace(slow, provider="CUDAExecutionProvider")
    assert latency(gpu, precision="fp16").grade is Grade.WARN


def test_a_variant_slower_than_fp32_fails_its_speed_budget_though_it_beats_pytorch():
    finding = only(latency(QUANTIZED, Budget(min_speedup={"cpu": 1.0}), "int8-dynamic"))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "speed-up: 0.75 times the fp32 artefact (1.50 ms / 2.00 ms, median of 3 interleaved "
        "rounds, processor time, 99% interval [0.70, 0.80], 1 thread a side, host to host), slower "
        "than fp32: release that one, or allow it (budget.min_speedup_over_fp32.cpu, 1 where "
        "budget.min_speedup is given)"
    )


@pytest.mark.parametrize(
    ("interval", "limit", "expected"),
    [
        ((0.95, 0.91, 0.99), 0.9, "pass"),
        ((0.89, 0.85, 0.94), 0.9, "fail"),  # the interval ends within half of what is allowed
        ((0.89, 0.85, 0.96), 0.9, "inconclusive"),
        ((0.91, 0.85, 0.94), 0.9, "inconclusive"),  # the median is not beyond it
        ((1.4, 1.3, 1.46), 1.5, "fail"),
        ((1.4, 1.3, 1.48), 1.5, "inconclusive"),
        ((0.996, 0.99, 0.998), 1.0, "pass"),  # two sessions of one artefact differ as much
        ((0.97, 0.96, 0.979), 1.0, "fail"),
        ((0.97, 0.96, 0.981), 1.0, "inconclusive"),
    ],
)
def test_a_slow_down_over_fp32_is_allowed_forbidden_or_too_close(interval, limit, expected):
    budget = Budget(min_speedup_over_fp32={"cpu": limit})
    assert outcome(latency(over_fp32(*interval), budget, "int8-static")) == expected


def test_a_variant_faster_than_fp32_meets_a_speed_budget():
    budget = Budget(min_speedup={"cpu": 1.0})
    assert latency(over_fp32(1.05, 1.0, 1.1), budget, "int8-dynamic").findings == ()


@pytest.mark.parametrize(
    ("seconds", "shown"), [(7.12e-6, "0.00712 ms"), (0.9997, "1000 ms"), (1.5, "1500 ms")]
)
def test_times_have_three_digits(seconds, shown):
    quick = dataclasses.replace(MEASURED, onnxruntime=summarised("onnxruntime", (seconds,)))
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
    assert (finding.grade, finding.inconclusive) == (Grade.WARN, False)
    assert "int8-dynamic makes it slower here" in str(finding)


def test_fp16_is_slower_on_a_cpu_by_nature():
    assert latency(QUANTIZED, precision="fp16").findings == ()


def test_a_slowness_within_noise_is_not_told_without_a_budget():
    assert latency(over_fp32(0.75, 0.7, 1.1), precision="int8-dynamic").findings == ()


HUNDREDS = dataclasses.replace(
    MEASURED, onnxruntime=summarised("onnxruntime", [n / 2e3 for n in range(1, 201)])
)  # ms: p95 is 95, its interval [91.5, 99]; the median 50.25, its interval [41, 59.5]


@pytest.mark.parametrize(
    ("limit", "expected"), [(99, "pass"), (97, "inconclusive"), (90, "inconclusive"), (89, "fail")]
)
def test_p95_has_three_outcomes(limit, expected):
    assert outcome(latency(HUNDREDS, Budget(max_p95_ms={"cpu": limit}))) == expected


def test_a_p95_of_few_calls_is_too_close_to_tell_even_below_its_limit():
    few = summarised("onnxruntime", [n / 1e3 for n in range(1, 31)])
    verdict = latency(
        dataclasses.replace(MEASURED, onnxruntime=few), Budget(max_p95_ms={"cpu": 30})
    )
    assert outcome(verdict) == "inconclusive"
    assert not verdict.decided
    assert "of 30 calls (median 15.5 ms), too few to tell how high it may be" in verdict.reason


def test_a_p95_beyond_its_budget_says_how_far():
    finding = only(latency(HUNDREDS, Budget(max_p95_ms={"cpu": 80})))
    assert str(finding) == (
        "p95: p95 95.0 ms of 200 calls (median 50.2 ms), interval [91.5 ms, 99.0 ms], "
        "allowed 80 ms (budget.max_p95_ms.cpu); an absolute time, which depends on the machine"
    )


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(67, "pass"), (78, "inconclusive"), (99, "inconclusive"), (100, "fail")],
)
def test_throughput_has_three_outcomes(asked, expected):
    # 4 items in 50.25 ms [41, 59.5]: 79.6 a second [67.2, 97.6]
    assert outcome(latency(HUNDREDS, Budget(min_throughput={"cpu": asked}))) == expected


def test_a_throughput_below_its_budget_says_how_far():
    finding = only(latency(HUNDREDS, Budget(min_throughput={"cpu": 1000})))
    assert str(finding) == (
        "throughput: 79.6 items/s (4 in 50.2 ms, 99% interval [67.23, 97.56]), asked for at "
        "least 1000 (budget.min_throughput.cpu); an absolute time, which depends on the machine"
    )


@pytest.mark.parametrize(
    ("limit", "expected"), [(0.12, "pass"), (0.11, "inconclusive"), (0.09, "inconclusive")]
)
def test_loading_is_told_by_all_of_the_times_it_took(limit, expected):
    verdict = latency(budget=Budget(max_load_s={"cpu": limit}))
    assert outcome(verdict) == expected
    assert verdict.decided  # timing calls for longer would tell nothing of it


def test_a_load_beyond_its_budget_says_how_far():
    finding = only(latency(budget=Budget(max_load_s={"cpu": 0.05})))
    assert str(finding) == (
        "load: opening the session takes 0.100 s, interval [0.0800 s, 0.120 s], allowed 0.05 s "
        "(budget.max_load_s.cpu); an absolute time, which depends on the machine"
    )


@pytest.mark.parametrize(
    ("limit", "expected"),
    [(58, "pass"), (57, "inconclusive"), (44, "inconclusive"), (43, "fail")],
)
def test_memory_has_three_outcomes(limit, expected):
    verdict = latency(budget=Budget(max_memory_mb={"cpu": limit}))  # 50 MB, within 15%
    assert outcome(verdict) == expected
    assert verdict.decided  # it is measured once


def test_memory_beyond_its_budget_fails():
    finding = only(latency(budget=Budget(max_memory_mb={"cpu": 40})))
    assert finding.grade is Grade.FAIL
    assert str(finding).startswith(
        "memory: a session and one run add 50.0 MB to the process's peak, allowed 40 MB "
        "(budget.max_memory_mb.cpu)"
    )


def test_on_a_gpu_it_is_its_memory_that_is_limited():
    on_gpu = dataclasses.replace(MEASURED, device_memory_bytes=80_000_000)
    assert only(latency(on_gpu, budget=Budget(max_memory_mb={"cpu": 60}))).text == (
        "a session and one run take 80.0 MB of the GPU's memory, other processes' changes "
        "included, allowed 60 MB (budget.max_memory_mb.cpu): a smaller batch, another precision, "
        "or gpu_mem_limit in the target's provider_options take less"
    )
    assert latency(on_gpu, budget=Budget(max_memory_mb={"cpu": 100})).findings == ()


def test_memory_that_could_not_be_measured_is_no_pass():
    unknown = dataclasses.replace(MEASURED, memory_bytes=None)
    verdict = latency(unknown, Budget(max_memory_mb={"cpu": 50}))
    assert outcome(verdict) == "inconclusive"
    assert verdict.decided
    assert "a run that does not fail in the child process" in verdict.reason


def test_a_failure_is_decided_whatever_else_is_too_close():
    budget = Budget(min_speedup={"cpu": 1.5}, max_p95_ms={"cpu": 97})
    verdict = latency(HUNDREDS, budget)
    assert [finding.grade for finding in verdict.findings] == [Grade.FAIL, Grade.WARN]
    assert verdict.decided
