"""Convolutions of 8-bit values, as integer matrix products.

The inner dimension of the products is the kernel's positions, then the channels of a group: this
is the order in which ONNX Runtime's kernel adds up pairs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.runtime.products import Products, accumulators

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["convolved", "is_depthwise", "kernel_matrices"]


def convolved(
    image: Array,
    zero: int,
    weight: Array,
    weight_zero: Array | None,
    attributes: Mapping[str, Any],
    products: Products,
) -> Array:
    """Accumulators of a convolution, as matrix products.

    Args:
        image: uint8 [batch, channels, sizes...].
        zero: Its zero point, with which it is padded.
        weight: int8 or uint8 [outputs, channels / groups, kernel sizes...].
        weight_zero: Its zero point, or one for each output.
        attributes: Those of the node.
        products: Multiplies.

    Returns:
        int64 [batch, outputs, sizes...].
    """
    import numpy as np

    sizes = weight.shape[2:]
    dilations = attributes.get("dilations") or [1] * len(sizes)
    strides = attributes.get("strides") or [1] * len(sizes)
    reach = [(size - 1) * step + 1 for size, step in zip(sizes, dilations, strict=True)]
    pads = _padding(image.shape[2:], reach, strides, attributes)
    padded = np.pad(image, [(0, 0), (0, 0), *pads], constant_values=zero)
    axes = tuple(range(2, image.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=axes)
    steps = (1, 1, *strides, *dilations)
    windows = windows[tuple(slice(None, None, step) for step in steps)]
    batch, channels, *rest = windows.shape
    out = rest[: len(sizes)]
    groups = attributes.get("group", 1)
    kernels = kernel_matrices(weight, groups)
    points = [weight_zero] * groups
    if weight_zero is not None and weight_zero.size > 1:
        points = list(weight_zero.reshape(groups, -1))
    paired = not is_depthwise(weight, groups)
    share, each = channels // groups, len(weight) // groups
    found = np.empty((batch, len(weight), *out), np.int64)
    for index, group in itertools.product(range(batch), range(groups)):
        own = windows[index, group * share : (group + 1) * share]
        # [channels, out..., kernel...] -> [out..., kernel..., channels]
        rows = np.moveaxis(own, 0, -1).reshape(math.prod(out), -1)
        sums = accumulators(rows, zero, kernels[group], points[group], products, paired=paired)
        found[index, group * each : (group + 1) * each] = sums.T.reshape(each, *out)
    return found


def kernel_matrices(weight: Array, groups: int) -> list[Array]:
    """A convolution's weight [outputs, inputs / groups, sizes...] as [K, outputs / groups] each."""
    import numpy as np

    return [
        np.moveaxis(part, 1, -1).reshape(len(part), -1).T
        for part in weight.reshape(groups, -1, *weight.shape[1:])
    ]


def is_depthwise(weight: Array, groups: int) -> bool:
    """Whether every channel has a kernel of its own."""
    return len(weight) == groups and weight.shape[1] == 1


def _padding(
    sizes: Sequence[int],
    reach: Sequence[int],
    strides: Sequence[int],
    attributes: Mapping[str, Any],
) -> list[tuple[int, int]]:
    """Padding before and after each spatial dimension."""
    auto = attributes.get("auto_pad", b"NOTSET").decode()
    if auto == "VALID":
        return [(0, 0)] * len(sizes)
    if auto.startswith("SAME"):
        needed = [
            max(0, (math.ceil(size / stride) - 1) * stride + over - size)
            for size, over, stride in zip(sizes, reach, strides, strict=True)
        ]
        less = [(both // 2, both - both // 2) for both in needed]
        return less if auto == "SAME_UPPER" else [(after, before) for before, after in less]
    pads = attributes.get("pads") or [0] * (2 * len(sizes))
    return list(zip(pads[: len(sizes)], pads[len(sizes) :], strict=True))
