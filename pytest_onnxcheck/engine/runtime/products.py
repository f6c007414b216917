"""Integer matrix products, as x86 CPUs with and without VNNI compute them.

An x86 CPU without VNNI multiplies unsigned by signed bytes with `vpmaddubsw`, which adds up the
products of two neighbours along the inner dimension (k and k + 1, k even) and saturates their sum
to 16 bits. With VNNI, and for unsigned weights, products are added up in 32 bits. Two kernels add
up in 32 bits everywhere: that of depthwise convolutions, and that of ConvInteger, whose weights
are the operand that is made unsigned.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["BYTE", "Products", "accumulators", "saturable", "stacked_accumulators"]

#: The range of 16 bits, to which the sum of a pair saturates.
_LOWEST, _HIGHEST = -(2**15), 2**15 - 1

#: The largest unsigned byte.
BYTE = 255

#: Bytes of the products that are held at a time.
_CHUNK = 64_000_000


class Products:
    """Integer matrix products, and how many of their pairs saturate.

    Attributes:
        saturating: Whether pairs are saturated to 16 bits, as without VNNI.
        pairs: How many pairs were added up.
        saturated: How many of them were beyond 16 bits.
    """

    def __init__(self, *, saturating: bool) -> None:
        self.saturating = saturating
        self.pairs = 0
        self.saturated = 0

    @property
    def share(self) -> float:
        """Share of the pairs that were beyond 16 bits."""
        return self.saturated / self.pairs if self.pairs else 0.0

    def add(self, other: Products) -> None:
        """Adds what another has counted."""
        self.pairs += other.pairs
        self.saturated += other.saturated

    def multiply(self, left: Array, right: Array, *, paired: bool = True) -> Array:
        """The sums of products of uint8 [M, K] and int8 or uint8 [K, N]: int64 [M, N].

        Exact in float64 up to an inner dimension of 2^37. `paired` is false for kernels that add
        up in 32 bits on every CPU.
        """
        import numpy as np

        whole = (left.astype(np.float64) @ right.astype(np.float64)).astype(np.int64)
        self.pairs += len(left) * math.ceil(left.shape[1] / 2) * right.shape[1]
        if right.dtype == np.int8 and paired:
            excess, count = _excess(left, right)
            self.saturated += count
            if self.saturating:
                whole -= excess
        return whole


def saturable(weight: Array) -> int:
    """How many pairs of a weight, int8 [K, N], saturate for the largest activations.

    Two weights of opposite signs never do: 255 x 128 is below 2^15.
    """
    import numpy as np

    if weight.dtype != np.int8:
        return 0
    # no pair is beyond two of the largest and two of the smallest weight: weights of 7 bits
    extremes = np.array([weight.max(initial=0), weight.min(initial=0)], np.int32)
    if not _candidates(extremes, extremes).any():
        return 0
    return sum(int(np.count_nonzero(_candidates(one, other))) for one, other in _pairs(weight))


def accumulators(
    left: Array,
    zero: int,
    right: Array,
    right_zero: Array | None,
    products: Products,
    *,
    paired: bool = True,
) -> Array:
    """Sum of (left - zero)(right - right_zero) over k: int64 [M, N] of [M, K] and [K, N]."""
    import numpy as np

    whole = products.multiply(left, right, paired=paired)
    points = np.int64(0) if right_zero is None else right_zero.astype(np.int64).reshape(-1)
    sums = right.sum(axis=0, dtype=np.int64) - len(right) * points
    sums = zero * sums + left.sum(axis=1, dtype=np.int64)[:, None] * points
    shifted: Array = whole - sums
    return shifted


def stacked_accumulators(
    left: Array, zero: int, right: Array, right_zero: Array | None, products: Products
) -> Array:
    """`accumulators` of [..., M, K] and [..., K, N], which are broadcast."""
    import numpy as np

    if right.ndim == 2:
        rows = left.reshape(-1, left.shape[-1])
        found = accumulators(rows, zero, right, right_zero, products)
        return found.reshape(*left.shape[:-1], right.shape[-1])
    if right.ndim == 1 or left.ndim == 1:
        raise NotImplementedError("a product with a vector is not known")
    if right_zero is not None and right_zero.size > 1:
        raise NotImplementedError("zero points per column of a stack of matrices are not known")
    stack = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    lefts = np.broadcast_to(left, (*stack, *left.shape[-2:])).reshape(-1, *left.shape[-2:])
    rights = np.broadcast_to(right, (*stack, *right.shape[-2:])).reshape(-1, *right.shape[-2:])
    found = np.empty((len(lefts), left.shape[-2], right.shape[-1]), np.int64)
    for index, (one, other) in enumerate(zip(lefts, rights, strict=True)):
        found[index] = accumulators(one, zero, other, right_zero, products)
    return found.reshape(*stack, *found.shape[-2:])


def _pairs(weight: Array) -> Iterator[tuple[Array, Array]]:
    """Rows k and k + 1 of a weight, k even, in int32; zeros beyond the last."""
    import numpy as np

    wide = weight.astype(np.int32)
    for k in range(0, len(wide), 2):
        yield wide[k], wide[k + 1] if k + 1 < len(wide) else np.zeros_like(wide[k])


def _candidates(one: Array, other: Array, most: tuple[int, int] = (BYTE, BYTE)) -> Array:
    """Where two rows of weights saturate for activations up to `most`."""
    import numpy as np

    high = np.maximum(one, 0) * most[0] + np.maximum(other, 0) * most[1]
    low = np.minimum(one, 0) * most[0] + np.minimum(other, 0) * most[1]
    candidates: Array = (high > _HIGHEST) | (low < _LOWEST)
    return candidates


def _excess(left: Array, right: Array) -> tuple[Array, int]:
    """What saturation takes away from the sums, int64 [M, N], and how many pairs saturate."""
    import numpy as np

    excess = np.zeros((len(left), right.shape[1]), np.int64)
    count = 0
    if not left.size:
        return excess, count
    most = left.max(axis=0).astype(int)
    wide = left.astype(np.int32)
    for k, (one, other) in zip(itertools.count(0, 2), _pairs(right), strict=False):
        second = most[k + 1] if k + 1 < len(most) else 0
        (columns,) = np.nonzero(_candidates(one, other, (int(most[k]), int(second))))
        if not columns.size:
            continue
        for rows in _chunks(len(wide), columns.size):
            sums = wide[rows, k, None] * one[columns]
            if k + 1 < wide.shape[1]:
                sums += wide[rows, k + 1, None] * other[columns]
            beyond = sums - np.clip(sums, _LOWEST, _HIGHEST)
            count += int(np.count_nonzero(beyond))
            excess[rows, columns] += beyond
    return excess, count


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _CHUNK // (4 * columns))
    for start in range(0, rows, step):
        yield slice(start, start + step)
