"""A value against the two bounds of a metric."""

from __future__ import annotations

import math

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.verdict import Grade

__all__ = ["graded", "told"]

#: What is written behind a metric's value.
_UNITS = {"sqnr_db": " dB"}


def graded(value: float, bounds: s.Bounds, larger_is_better: bool) -> Grade:
    """A pass up to the first bound, a failure beyond the second, a warning between them."""
    if math.isnan(value):
        return Grade.FAIL
    if bounds.passed(value, larger_is_better):
        return Grade.PASS
    beyond = value < bounds.fails if larger_is_better else value > bounds.fails
    return Grade.FAIL if beyond else Grade.WARN


def told(metric: str, value: float, bounds: s.Bounds, of: str = "") -> str:
    """A value of a metric, of what it is where that must be said, and what is allowed."""
    sign = "at least" if s.METRICS[metric] else "at most"
    unit = _UNITS.get(metric, "")
    allowed = f"pass is {sign} {bounds.passes:g}{unit}, fail beyond {bounds.fails:g}{unit}"
    return f"{_beside(value, bounds)}{unit}{of}, {allowed}"


def _beside(value: float, bounds: s.Bounds) -> str:
    """The value in six digits, or in as many as tell it from its bounds."""
    shown = f"{value:.6g}"
    return repr(value) if float(shown) in (bounds.passes, bounds.fails) else shown
