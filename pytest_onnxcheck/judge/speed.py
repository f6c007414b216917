"""Judges the time an artefact takes."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import LatencyMeasurement, Timing
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = ["latency"]


def latency(measured: LatencyMeasurement, precision: str, budget: s.Budget) -> Verdict:
    """Judges the speed-up over PyTorch, and over the fp32 artefact for another precision.

    A speed-up below what is asked for fails when its whole interval is, and warns otherwise.
    """
    return Verdict.of([*_over_torch(measured, budget), *_over_fp32(measured, precision, budget)])


def _over_torch(measured: LatencyMeasurement, budget: s.Budget) -> Iterator[Finding]:
    asked = (budget.min_speedup or {}).get(measured.target)  # type: ignore[call-overload]
    if asked is None or measured.speedup >= asked:
        return
    yield _slow(
        measured,
        f"{measured.speedup:.2f} times PyTorch",
        measured.torch,
        measured.interval,
        f"asked for at least {asked:g} (budget.min_speedup.{measured.target})",
        asked,
    )


def _over_fp32(measured: LatencyMeasurement, precision: str, budget: s.Budget) -> Iterator[Finding]:
    speedup, fp32, key = measured.speedup_over_fp32, measured.fp32, "min_speedup_over_fp32"
    if speedup is None or fp32 is None:
        return
    target: str = measured.target
    asked = (budget.min_speedup_over_fp32 or {}).get(target)  # type: ignore[call-overload]
    text = f"{speedup:.2f} times the fp32 artefact"
    if asked is not None and speedup < asked:
        reason = f"asked for at least {asked:g} (budget.{key}.{target})"
        yield _slow(measured, text, fp32, measured.interval_over_fp32, reason, asked)
    elif asked is None and speedup < 1 and target in (budget.min_speedup or {}):
        reason = (
            f"slower than fp32: release that one, or allow it (budget.{key}.{target}, 1 where "
            "budget.min_speedup is given)"
        )
        yield _slow(measured, text, fp32, measured.interval_over_fp32, reason, 1.0)
    elif asked is None and _pays_by_speed(precision) and _surely_below(measured, 1.0):
        yield Finding(
            Grade.WARN,
            "speed-up",
            f"{text} ({_times(fp32, measured)}): {precision} makes it slower here. Set "
            f"budget.{key} to fail on it",
        )


def _pays_by_speed(precision: str) -> bool:
    """Whether a precision is meant to be faster on a CPU, which computes 16 bits in float32."""
    return precision.startswith("int8")


def _surely_below(measured: LatencyMeasurement, bound: float) -> bool:
    return measured.interval_over_fp32 is not None and measured.interval_over_fp32[1] < bound


def _slow(
    measured: LatencyMeasurement,
    text: str,
    other: Timing,
    interval: tuple[float, float] | None,
    reason: str,
    asked: float,
) -> Finding:
    sure = interval is None or not interval[1] >= asked
    shown = "" if interval is None else f", 99% interval [{interval[0]:.2f}, {interval[1]:.2f}]"
    return Finding(
        Grade.FAIL if sure else Grade.WARN,
        "speed-up",
        f"{text} ({_times(other, measured)}{shown}, {measured.threads} thread a side, "
        f"{measured.boundary}), {reason}" + ("" if sure else "; noise: too close to tell"),
    )


def _times(other: Timing, measured: LatencyMeasurement) -> str:
    own = measured.onnxruntime
    return (
        f"{_milliseconds(other.median)} / {_milliseconds(own.median)}, median of "
        f"{len(own.samples)} interleaved rounds"
    )


def _milliseconds(seconds: float) -> str:
    return format(Decimal(f"{seconds * 1e3:#.3g}"), "f") + " ms"  # never as 1.23e+03
