"""How much of what a tolerance allows an output uses up."""

from __future__ import annotations

import math

from pytest_onnxcheck.manifest.sections import METRICS, Bounds, Tolerance, share_used
from pytest_onnxcheck.measurement import OutputMeasurement

__all__ = ["largest_difference", "share_of_bound"]


def share_of_bound(measured: OutputMeasurement, tolerance: Tolerance) -> float:
    """The worst metric of an output as a share of its bound; above 1 it fails."""
    if measured.nonfinite or measured.outside_allclose:
        return math.inf
    worst = 0.0
    for metric in METRICS:
        bounds, value = getattr(tolerance, metric), getattr(measured, metric)
        if isinstance(bounds, Bounds) and value is not None:
            worst = max(worst, share_used(metric, value, bounds.fails))
    return worst


def largest_difference(output: OutputMeasurement, tolerance: Tolerance) -> float:
    """The largest |difference| from PyTorch that would pass, about.

    It is what `max_abs` would be if all errors shrank alike until the worst metric passes.
    """
    worst = output.max_abs or 0.0
    if output.tied and output.tied == output.differing:
        return worst
    floor, share = output.floor, share_of_bound(output, tolerance)
    allowed = [worst / share] if share > 0 else []
    if floor is not None:
        # the floor is about float64, the script compares with PyTorch's own float32
        noise = tolerance.floors * floor.floor_worst + floor.torch_worst
        if floor.ratio > tolerance.floors:
            noise = min(noise, worst * tolerance.floors / floor.ratio)
        if tolerance.policy == "fixed":  # on a probe, which passes by either
            return max([noise, *allowed])
        allowed.append(noise)
    return min(allowed, default=0.0)
