"""Weights that float16 does not hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.walk import constants, loaded_constants
from pytest_onnxcheck.manifest.precisions import PRECISIONS

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["lost_weights", "small_constants"]

#: Share of a tensor's elements from which on vanished ones are told: of millions of weights drawn
#: at random, a few lie next to zero.
_LEAST_VANISHED_SHARE = 0.01

#: float16's smallest normal number: below it fewer and fewer digits are kept.
_NORMAL = 2.0**-14

#: A constant is told that is off by more than this share of itself.
_OFF = 1 / 64

#: Values as close together as this stand for minus infinity in one mask, whatever is added to it.
_ALIKE = 0.01


def lost_weights(
    path: Path, float_path: Path, precision: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Weights of the fp32 artefact that are beyond float16, or too small for it.

    Masks and constants are no weights: tensors whose elements are zero or one same value, e.g.
    minus infinity written as -1e9, and that value beside others that float16 holds (a mask added
    to a bias). bfloat16 has the range of float32 and loses none.

    Args:
        path: The artefact; only what it holds in float16 counts, by name. Under `half` the
            module was cast, not the graph: everything counts.
        float_path: The fp32 artefact.
        precision: The artefact's precision.

    Returns:
        Those beyond it and those too small for it, as `NAME (3 of 512 elements)`: finite elements
        beyond 65504, and elements that are not zero but no larger than half the smallest
        subnormal, in tensors of which they are at least a hundredth.
    """
    import numpy as np
    import onnx

    if PRECISIONS[precision].floats != "float16":
        return (), ()
    limits = np.finfo(np.float16)
    stored = {
        name
        for name, tensor in constants(onnx.load(path, load_external_data=False).graph)
        if tensor.data_type == onnx.TensorProto.FLOAT16
    }
    clipped, vanished = [], []
    for name, tensor in loaded_constants(float_path):
        converted = PRECISIONS[precision].casts_module or name in stored
        if tensor.data_type != onnx.TensorProto.FLOAT or not converted:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        size = np.abs(values)
        beyond = values[(size > float(limits.max)) & np.isfinite(size)]
        gone = int(((size > 0) & (size <= float(limits.smallest_subnormal) / 2)).sum())
        if not (beyond.size or gone) or _one_value(values):
            continue
        if beyond.size and not _mask(beyond):
            clipped.append(f"{name} ({beyond.size} of {values.size} elements)")
        if gone >= _LEAST_VANISHED_SHARE * values.size:
            vanished.append(f"{name} ({gone} of {values.size} elements)")
    return tuple(clipped), tuple(vanished)


def small_constants(path: Path, float_path: Path) -> tuple[str, ...]:
    """Weights and constants of the fp32 artefact that are too small for float16 as a whole.

    A converter does not turn them to zero, it raises them: an epsilon of 1e-9 becomes 6e-8.

    Args:
        path: The artefact; only what it holds in float16 under the same name counts.
        float_path: The fp32 artefact.

    Returns:
        Those whose largest element it does not hold, as `NAME (1e-09, here 5.96e-08)`.
    """
    import numpy as np
    import onnx

    small = []
    for name, tensor in loaded_constants(float_path):
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor).reshape(-1)
            if values.size:
                largest = int(np.abs(values).argmax())
                if 0 < abs(values[largest]) < _NORMAL:
                    small.append((name, values.size, largest, float(values[largest])))
    if not small:
        return ()
    stored = {
        name: onnx.numpy_helper.to_array(tensor).reshape(-1)
        for name, tensor in loaded_constants(path)
        if tensor.data_type == onnx.TensorProto.FLOAT16
    }
    found = []
    for name, size, largest, own in small:
        if name in stored and stored[name].size == size:
            here = float(stored[name][largest])
            if abs(here - own) > _OFF * abs(own):
                found.append(f"{name} ({own:.3g}, here {here:.3g})")
    return tuple(found)


def _one_value(values: Array) -> bool:
    nonzero = values[values != 0]
    return bool((nonzero == nonzero[0]).all())


def _mask(beyond: Array) -> bool:
    """Whether these are many and (nearly) one: a weight that is too large stands alone."""
    import numpy as np

    return beyond.size > 1 and bool(np.allclose(beyond, beyond[0], rtol=_ALIKE, atol=0))
