"""Weights that float16 cannot hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["lost_weights"]

#: Share of a tensor's elements from which on vanished ones are told: of millions of weights drawn
#: at random, a few lie next to zero.
_TOLD = 0.01


def lost_weights(
    path: Path, float_path: Path, precision: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Weights of the fp32 artefact that are beyond float16, or that it turns to zero.

    Masks and constants are no weights: tensors whose elements are zero or one same value, e.g.
    minus infinity written as -1e9. bfloat16 has the range of float32 and loses none.

    Args:
        path: The artefact; only initializers that it holds in float16 count, by name. Under
            `half` the module was cast, not the graph: all of them count.
        float_path: The fp32 artefact.
        precision: The artefact's precision.

    Returns:
        The clipped and the vanished ones, as `NAME (3 of 512 elements)`: finite elements beyond
        65504, and elements that are not zero but no larger than half the smallest subnormal, in
        tensors of which they are at least a hundredth.
    """
    import numpy as np
    import onnx

    if precision not in ("fp16", "half"):
        return (), ()
    limits = np.finfo(np.float16)
    stored = {
        tensor.name
        for tensor in onnx.load(path, load_external_data=False).graph.initializer
        if tensor.data_type == onnx.TensorProto.FLOAT16
    }
    clipped, vanished = [], []
    for tensor in onnx.load(float_path).graph.initializer:
        converted = precision == "half" or tensor.name in stored
        if tensor.data_type != onnx.TensorProto.FLOAT or not converted:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        size = np.abs(values)
        beyond = int(((size > float(limits.max)) & np.isfinite(size)).sum())
        gone = int(((size > 0) & (size <= float(limits.smallest_subnormal) / 2)).sum())
        if not (beyond or gone) or _one_value(values):
            continue
        if beyond:
            clipped.append(f"{tensor.name} ({beyond} of {values.size} elements)")
        if gone >= _TOLD * values.size:
            vanished.append(f"{tensor.name} ({gone} of {values.size} elements)")
    return tuple(clipped), tuple(vanished)


def _one_value(values: Array) -> bool:
    nonzero = values[values != 0]
    return bool((nonzero == nonzero[0]).all())
