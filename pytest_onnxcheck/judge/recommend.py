"""Judges the recipes that were tried."""

from __future__ import annotations

from pytest_onnxcheck.measurement import RecipeTrial, RecommendMeasurement
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = ["recommend"]


def recommend(measured: RecommendMeasurement) -> Verdict:
    """Says which recipe to use; warns where there is none, or where most were not tried."""
    if measured.best is not None:
        text = _found(measured, measured.best)
        few = measured.untried > len(measured.tried)
        grade = Grade.WARN if few or not measured.pays else Grade.PASS
        if not measured.pays:
            text = f"none pays, release fp32; next is {text}"
        return Verdict.of([Finding(grade, "recommended", text + _untried(measured))])
    if not measured.tried:
        text = f"no time to try any of {measured.untried} recipes in {measured.seconds:g} s"
    else:
        text = f"none of {len(measured.tried)} recipes meets its tolerance and budget"
    text += _untried(measured)
    closest = min(
        (trial for trial in measured.tried if trial.rel_rms is not None),
        key=lambda trial: trial.rel_rms or 0.0,
        default=None,
    )
    if closest is not None:
        text += f"; least loss: {closest.precision}, {closest.problem}"
    return Verdict.of([Finding(Grade.WARN, "recommended", text)])


def _found(measured: RecommendMeasurement, best: int) -> str:
    trial = measured.tried[best]
    text = f"{trial.precision}{_options(trial)}: {trial.size_ratio or 0.0:.2f} of the fp32 bytes"
    if trial.speedup is not None:
        text += f", {trial.speedup:.2f} times PyTorch"
    if trial.speedup_over_fp32 is not None:
        text += f", {trial.speedup_over_fp32:.2f} times fp32"
    if trial.rel_rms is not None:
        text += f", rel_rms {trial.rel_rms:.3g}"
    return f"{text}; the best of {len(measured.tried)} recipes"


def _untried(measured: RecommendMeasurement) -> str:
    if not measured.untried:
        return ""
    return f"; {measured.untried} were not tried for lack of time (--onnxcheck-recommend=SECONDS)"


def _options(trial: RecipeTrial) -> str:
    shown = ", ".join(f"{name} {value}" for name, value in trial.options.items())
    return f" ({shown})" if shown else ""
