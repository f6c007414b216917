"""Judges the time an artefact takes."""

from __future__ import annotations

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import LatencyMeasurement
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = ["latency"]

_FAIL, _WARN, _PASS = Grade.FAIL, Grade.WARN, Grade.PASS


def latency(measured: LatencyMeasurement, budget: s.Budget) -> Verdict:
    """Judges the speed-up over PyTorch."""
    allowed = (budget.min_speedup or {}).get(measured.target)  # type: ignore[call-overload]
    if allowed is None or measured.speedup >= allowed:
        return Verdict()
    return Verdict.of(
        [
            Finding(
                _FAIL,
                "speed-up",
                f"{measured.speedup:.2f} times PyTorch "
                f"({measured.torch.median * 1e3:.3f} ms / {measured.onnxruntime.median * 1e3:.3f} "
                f"ms, median of {len(measured.torch.samples)} interleaved pairs, "
                f"{measured.threads} thread a side, {measured.boundary}), "
                f"asked for at least {allowed:g} (budget.min_speedup.{measured.target})",
            )
        ]
    )
