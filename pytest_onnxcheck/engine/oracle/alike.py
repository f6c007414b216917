"""How far two runs of a model are apart, and whether they are alike."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["apart", "distance", "masked", "nonfinite_kinds", "same"]

#: how many times larger than all the others the elements are that only mask
_MASK = 100.0


def distance(one: Array, other: Array, finite: Array) -> Array:
    """|one - other| by element, as float64, exact for integers of every width.

    Args:
        one: An array of any dtype.
        other: An array of its shape.
        finite: Which elements are compared; the distance of the others is 0.
    """
    import numpy as np

    kinds = {one.dtype.kind, other.dtype.kind}
    if kinds <= {"i"} or kinds <= {"u"}:
        # differences of 64-bit integers may not fit, but they do modulo 2^64, without sign
        high = np.maximum(one, other).astype(np.uint64)
        low = np.minimum(one, other).astype(np.uint64)
        return (high - low).astype(np.float64)
    wide = np.where(finite, one, 0).astype(np.float64)
    with np.errstate(over="ignore"):
        return np.abs(np.where(finite, other, 0).astype(np.float64) - wide)


def apart(one: Array, other: Array) -> float:
    """How far two runs are apart, as a part of the largest element of the first.

    Infinite where NaN or infinity stands on one side only, only the first is zero, or integers
    differ.
    """
    import numpy as np

    if one.dtype.kind != "f":
        return 0.0 if np.array_equal(one, other) else math.inf
    if not np.array_equal(nonfinite_kinds(one), nonfinite_kinds(other)):
        return math.inf
    finite = np.isfinite(one)
    scale = float(np.abs(one[finite]).max(initial=0.0))
    largest = float(distance(one, other, finite).max(initial=0.0))
    return largest / scale if scale else math.inf if largest else 0.0


def same(one: list[Array], other: list[Array], unit: float = 0.0) -> bool:
    """Whether two runs agree to a few units in the last place of the largest element.

    Args:
        one: Outputs of the one.
        other: Outputs of the other.
        unit: The unit, relative, where it is more than that of their dtype.
    """
    import numpy as np

    for left, right in zip(one, other, strict=True):
        if left.shape != right.shape:
            return False
        if np.array_equal(left, right, equal_nan=left.dtype.kind == "f"):
            continue
        if left.dtype.kind != "f":
            return False
        finite = left[np.isfinite(left)]
        scale = float(np.abs(finite).max(initial=0.0))
        allowed = 8 * max(unit, float(np.finfo(left.dtype).eps)) * scale
        if not np.allclose(left, right, rtol=0, atol=allowed, equal_nan=True):
            return False
    return True


def masked(own: Array, *others: Array) -> Array:
    """Elements that are masks and no results, as of logits that are masked by -1e9.

    They are negative, far beyond all the others, and the same in all arrays, to the last bit.
    Beside them, no error of the others would count.

    Args:
        own: Floating, any shape.
        others: Of the same shape; rounded to its dtype.
    """
    import numpy as np

    if own.dtype.kind != "f":
        return np.zeros(own.shape, bool)
    finite = np.isfinite(own)
    with np.errstate(over="ignore"):
        equal = [np.asarray(other).astype(own.dtype) == own for other in others]
    low = np.logical_and.reduce([own < -_MASK, finite, *equal])
    rest = finite & ~low
    if not low.any() or not rest.any():
        return np.zeros(own.shape, bool)
    beyond: Array = low & (own < -_MASK * np.abs(own[rest]).max().astype(np.float64))
    return beyond


def nonfinite_kinds(array: Array) -> Array:
    """0 for finite elements, 1 for NaN, 2 and 3 for positive and negative infinity."""
    import numpy as np

    infinity = np.where(array > 0, 2, 3)
    return np.where(np.isnan(array), 1, np.where(np.isinf(array), infinity, 0)).astype(np.int8)
