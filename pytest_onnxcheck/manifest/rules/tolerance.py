"""Rules for tolerances: bounds, pairs, and where a noise floor can be measured."""

from __future__ import annotations

import math

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.manifest.model import Variant
from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.manifest.rules.base import Found

__all__ = ["check_floor", "check_tolerance"]

#: precisions that no noise floor is measured for
_WITHOUT_FLOOR = [name for name, traits in PRECISIONS.items() if not traits.noise_floor]
_NO_FLOOR = (
    "a noise floor is what rounding alone does, and is only measured for "
    f"{', '.join(name for name in PRECISIONS if name not in _WITHOUT_FLOOR)}. Judge "
    f'{", ".join(_WITHOUT_FLOOR)} by thresholds on rel_rms and cosine (policy = "fixed")'
)
#: metrics of an output -> the ends of what they can be
_ENDS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("max_abs", "mean_abs", "mse", "max_rel", "rel_rms"), (0, math.inf)),
    "cosine": (-1, 1),
    "top1": (0, 1),
}


def check_tolerance(key: str, tolerance: s.Tolerance) -> Found:
    """What is wrong with a table `tolerance.KEY` by itself."""
    yield from _policy(key, tolerance)
    yield from _possible(key, tolerance)
    yield from _ordered(key, tolerance)
    if tolerance.safety is not None and tolerance.safety < 1:
        text = f"safety: {tolerance.safety:g} is less than 1, and rounding alone is one noise floor"
        yield ("tolerance", key, "safety"), text
    if (tolerance.rtol is None) != (tolerance.atol is None):
        yield ("tolerance", key), "rtol and atol go together (set one of them to 0.0)"


def _policy(key: str, tolerance: s.Tolerance) -> Found:
    if key in _WITHOUT_FLOOR and tolerance.policy == "noise-floor":
        yield ("tolerance", key, "policy"), f'policy "noise-floor" is not for {key}: {_NO_FLOOR}'
    elif tolerance.safety is None:
        return
    elif tolerance.policy == "fixed":
        yield (
            ("tolerance", key, "safety"),
            'safety bounds no declared case with policy = "fixed": drop it, or set '
            'policy = "noise-floor"',
        )
    elif key in _WITHOUT_FLOOR:
        yield ("tolerance", key, "safety"), f"safety has no effect on {key}: {_NO_FLOOR}"
    elif tolerance.policy is None and tolerance.fixed:
        yield (
            ("tolerance", key, "safety"),
            'safety bounds no declared case: thresholds without a policy mean policy = "fixed"; '
            'set policy = "noise-floor" to have both',
        )


def _possible(key: str, tolerance: s.Tolerance) -> Found:
    """Bounds that no value of their metric can be on either side of."""
    for metric, (low, high) in _ENDS.items():
        bounds = getattr(tolerance, metric)
        if isinstance(bounds, s.Bounds):
            for bound in dict.fromkeys((bounds.passes, bounds.fails)):
                if not low <= bound <= high:
                    ends = f"between {low} and {high}" if high < math.inf else f"at least {low}"
                    text = f"{metric}: {bound:g} is not {ends}"
                    yield ("tolerance", key, metric), text


def _ordered(key: str, tolerance: s.Tolerance) -> Found:
    """Pairs whose failing bound lies on the passing side."""
    for metric, larger_is_better in s.METRICS.items():
        bounds = getattr(tolerance, metric)
        if isinstance(bounds, s.Bounds):
            lower, upper = bounds.passes, bounds.fails
            if larger_is_better:
                lower, upper = upper, lower
            if lower > upper:
                yield (
                    ("tolerance", key, metric),
                    f"{metric}: the pair is [pass, fail]; {bounds.fails:g} cannot fail "
                    f"when {bounds.passes:g} passes",
                )


def check_floor(key: str, tolerance: s.Tolerance, chosen: list[Variant]) -> Found:
    """What asks for a noise floor where there is none, through a glob."""
    without = [variant for variant in chosen if variant.precision in _WITHOUT_FLOOR]
    names = ", ".join(dict.fromkeys(variant.name for variant in without))
    if tolerance.policy == "noise-floor" and without:
        yield (
            ("tolerance", key, "policy"),
            f'policy "noise-floor" is not for {names}, which {key!r} selects: {_NO_FLOOR}',
        )
    elif tolerance.safety is not None and chosen and len(without) == len(chosen):
        yield (
            ("tolerance", key, "safety"),
            f"safety has no effect: {key!r} selects only {names}: {_NO_FLOOR}",
        )
