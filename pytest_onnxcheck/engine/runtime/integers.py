"""ONNX Runtime's 8-bit operators in numpy, as x86 CPUs with and without VNNI compute them.

Signed activations are made unsigned first (128 is added to them and to their zero point); what
becomes of the products stands in `products`. What is computed beside them (zero points, scales,
rounding half to even) follows MLAS, ONNX Runtime's kernels: accumulators become float32, are
multiplied by the float32 product of the scales, clipped and rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.walk import attributes as attributes_of
from pytest_onnxcheck.engine.runtime.convolution import convolved, is_depthwise, kernel_matrices
from pytest_onnxcheck.engine.runtime.products import (
    BYTE,
    Products,
    accumulators,
    stacked_accumulators,
)

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["compute", "weights"]

#: The attributes of a convolution.
_CONVOLUTION_ATTRIBUTES = frozenset(
    ["auto_pad", "channels_last", "dilations", "group", "kernel_shape", "pads", "strides"]
)

#: Operator -> the attributes that are known here; the others have none.
_KNOWN_ATTRIBUTES = {
    "DynamicQuantizeLSTM": frozenset(["activations", "direction", "hidden_size", "input_forget"]),
    "QGemm": frozenset(["alpha", "transA", "transB"]),
    "QLinearConv": _CONVOLUTION_ATTRIBUTES,
}


def weights(node: onnx.NodeProto, weight: Array) -> list[Array]:
    """A node's weight as matrices [K, N] in the order in which its kernel adds up pairs, if any."""
    if node.op_type == "QLinearConv":
        groups = attributes_of(node).get("group", 1)
        return [] if is_depthwise(weight, groups) else kernel_matrices(weight, groups)
    if node.op_type == "QGemm":
        return [weight.T if attributes_of(node).get("transB", 0) else weight]
    if weight.ndim == 1:
        return [weight[:, None]]
    return list(weight.reshape(-1, *weight.shape[-2:]))


def compute(
    node: onnx.NodeProto, inputs: Sequence[Array | None], products: Products
) -> dict[str, Array]:
    """What a node of `SATURABLE_WEIGHTS` gives.

    Args:
        node: The node.
        inputs: Its inputs by position; None where one is left out.
        products: Multiplies, and counts what saturates.

    Returns:
        Its outputs by name.

    Raises:
        NotImplementedError: The node has an attribute or input that is not known here.
    """
    import numpy as np

    read, attributes = [*inputs, *[None] * (12 - len(inputs))], attributes_of(node)
    strange = sorted(attributes.keys() - _KNOWN_ATTRIBUTES.get(node.op_type, frozenset()))
    if strange:
        raise NotImplementedError(f"attribute {', '.join(strange)} is not known")
    with np.errstate(all="ignore"):
        outputs = _COMPUTE[node.op_type](read, attributes, products)
    return {name: array for name, array in zip(node.output, outputs, strict=False) if name}


# ------------------------------------------------------------------------ zero points, scales


def _unsigned(array: Array, zero: Array | None) -> tuple[Array, int]:
    """Activations as bytes without a sign, and their zero point."""
    import numpy as np

    if zero is not None and zero.size > 1:
        raise NotImplementedError("activations with a zero point per row are not known")
    point = 0 if zero is None else int(zero.reshape(-1)[0])
    if array.dtype == np.int8:
        return (array.astype(np.int16) + 128).astype(np.uint8), point + 128
    return array, point


def _quantized(values: Array) -> tuple[Array, int, np.float32]:
    """Floats as bytes over their own range: bytes, zero point and scale (DynamicQuantizeLinear)."""
    import numpy as np

    if not np.isfinite(values).all():
        raise NotImplementedError("NaN or infinity that is quantized is not known")
    low = np.float32(min(values.min(initial=0.0), 0.0))
    high = np.float32(max(values.max(initial=0.0), 0.0))
    scale = np.float32(1) if high == low else np.float32((high - low) / np.float32(BYTE))
    zero = int(np.rint(np.clip(np.float32(0) - low / scale, 0, BYTE)))
    rounded = np.clip(np.rint(values / scale) + zero, 0, BYTE)
    return rounded.astype(np.uint8), zero, scale


def _requantized(sums: Array, scale: Array, zero: Array | None, kind: Any) -> Array:
    """Accumulators as 8-bit values."""
    import numpy as np

    point = 0 if zero is None else int(zero.reshape(-1)[0])
    limits = np.iinfo(kind)
    scaled = sums.astype(np.float32) * scale.astype(np.float32)
    clipped = np.clip(scaled, np.float32(limits.min - point), np.float32(limits.max - point))
    return (np.rint(clipped).astype(np.int32) + point).astype(kind)


def _scalar(scale: Array) -> np.float32:
    """A scale of a whole tensor."""
    import numpy as np

    return np.float32(scale.reshape(-1)[0])


def _dtype(zero: Array | None, default: Array) -> Any:
    return default.dtype if zero is None else zero.dtype


# ------------------------------------------------------------------------------- operators

_Inputs = Sequence[Any]
_Attributes = Mapping[str, Any]


def _matmul_integer(read: _Inputs, _: _Attributes, products: Products) -> list[Array]:
    import numpy as np

    a, b, a_zero, b_zero = read[:4]
    left, zero = _unsigned(a, a_zero)
    return [stacked_accumulators(left, zero, b, b_zero, products).astype(np.int32)]


def _matmul_integer_to_float(read: _Inputs, _: _Attributes, products: Products) -> list[Array]:
    import numpy as np

    a, b, a_scale, b_scale, a_zero, b_zero, bias = read[:7]
    left, zero = _unsigned(a, a_zero)
    found = stacked_accumulators(left, zero, b, b_zero, products).astype(np.float32)
    found *= _scalar(a_scale) * b_scale.reshape(-1)
    return [found if bias is None else found + bias]


def _dynamic_quantize_matmul(read: _Inputs, _: _Attributes, products: Products) -> list[Array]:
    import numpy as np

    a, b, b_scale, b_zero, bias = read[:5]
    left, zero, scale = _quantized(a)
    found = stacked_accumulators(left, zero, b, b_zero, products).astype(np.float32)
    found *= scale * b_scale.reshape(-1)
    return [found if bias is None else found + bias]


def _qlinear_matmul(read: _Inputs, _: _Attributes, products: Products) -> list[Array]:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = read[:8]
    left, zero = _unsigned(a, a_zero)
    found = stacked_accumulators(left, zero, b, b_zero, products)
    scale = _scalar(a_scale) * b_scale.reshape(-1) / _scalar(y_scale)
    return [_requantized(found, scale, y_zero, _dtype(y_zero, a))]


def _qgemm(read: _Inputs, attributes: _Attributes, products: Products) -> list[Array]:
    import numpy as np

    a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero = read[:9]
    left, zero = _unsigned(a.T if attributes.get("transA", 0) else a, a_zero)
    right = b.T if attributes.get("transB", 0) else b
    found = accumulators(left, zero, right, b_zero, products)
    if bias is not None:
        found = found + bias
    scale = np.float32(attributes.get("alpha", 1.0)) * _scalar(a_scale) * b_scale.reshape(-1)
    if y_scale is None:
        return [found.astype(np.float32) * scale]
    return [_requantized(found, scale / _scalar(y_scale), y_zero, _dtype(y_zero, a))]


def _qlinear_conv(read: _Inputs, attributes: _Attributes, products: Products) -> list[Array]:
    import numpy as np

    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, bias = read[:9]
    channels_last = attributes.get("channels_last", 0)
    image, zero = _unsigned(np.moveaxis(x, -1, 1) if channels_last else x, x_zero)
    found = convolved(image, zero, w, w_zero, attributes, products)
    per_channel = (1, -1, *[1] * (found.ndim - 2))
    if bias is not None:
        found = found + bias.reshape(per_channel)
    scale = (_scalar(x_scale) * w_scale.reshape(-1) / _scalar(y_scale)).reshape(per_channel)
    y = _requantized(found, scale, y_zero, _dtype(y_zero, x))
    return [np.moveaxis(y, 1, -1) if channels_last else y]


def _dynamic_quantize_lstm(
    read: _Inputs, attributes: _Attributes, products: Products
) -> list[Array]:
    """An LSTM whose inputs are quantized all at once and whose state in every step.

    ONNX Runtime splits large batches among its threads, and quantizes each part by itself: so
    the result is its own to within the rounding of the state.
    """
    import numpy as np

    frames, weight, recurrence = read[0], read[1], read[2]
    usual = [b"Sigmoid", b"Tanh", b"Tanh"] * len(weight)
    if attributes.get("activations", usual) != usual:
        raise NotImplementedError("an LSTM with other activations is not known")
    if read[7] is not None or attributes.get("input_forget", 0):
        raise NotImplementedError("an LSTM with peepholes or coupled gates is not known")
    if read[4] is not None and (read[4] != len(frames)).any():
        raise NotImplementedError("an LSTM with sequences of several lengths is not known")
    if not len(frames):
        raise NotImplementedError("an LSTM without frames is not known")
    direction = attributes.get("direction", b"forward").decode()
    reversed_ = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[direction]
    size = recurrence.shape[1]
    outputs, states, cells = [], [], []
    for index, backwards in enumerate(reversed_):
        ahead = frames[::-1] if backwards else frames
        point = {name: None if read[at] is None else read[at][index] for name, at in _POINTS}
        flat = ahead.reshape(-1, ahead.shape[-1])
        gates = _dynamic_product(flat, weight[index], point["w"], read[8][index], products)
        gates = gates.reshape(*ahead.shape[:2], 4 * size)
        if read[3] is not None:
            gates = gates + read[3][index][: 4 * size] + read[3][index][4 * size :]
        hidden = _initial(read[5], index, ahead.shape[1], size)
        cell = _initial(read[6], index, ahead.shape[1], size)
        steps = []
        for gate in gates:
            gate = gate + _dynamic_product(
                hidden, recurrence[index], point["r"], read[10][index], products
            )
            into, out, forget, value = np.split(gate, 4, axis=-1)
            cell = _sigmoid(forget) * cell + _sigmoid(into) * np.tanh(value)
            hidden = _sigmoid(out) * np.tanh(cell)
            steps.append(hidden)
        outputs.append(np.stack(steps[::-1] if backwards else steps))
        states.append(hidden)
        cells.append(cell)
    return [np.stack(outputs, axis=1), np.stack(states), np.stack(cells)]


_POINTS = (("w", 9), ("r", 11))


def _dynamic_product(
    values: Array, weight: Array, zero: Array | None, scale: Array, products: Products
) -> Array:
    import numpy as np

    left, point, own = _quantized(values)
    found = accumulators(left, point, weight, zero, products).astype(np.float32)
    found *= own * scale.reshape(-1)
    return found


def _initial(given: Array | None, index: int, batch: int, size: int) -> Array:
    import numpy as np

    return np.zeros((batch, size), np.float32) if given is None else given[index]


def _sigmoid(values: Array) -> Array:
    import numpy as np

    half = np.float32(0.5)
    sigmoid: Array = half * np.tanh(half * values) + half
    return sigmoid


_COMPUTE: dict[str, Callable[[_Inputs, _Attributes, Products], list[Array]]] = {
    "DynamicQuantizeLSTM": _dynamic_quantize_lstm,
    "DynamicQuantizeMatMul": _dynamic_quantize_matmul,
    "MatMulInteger": _matmul_integer,
    "MatMulIntegerToFloat": _matmul_integer_to_float,
    "QGemm": _qgemm,
    "QLinearConv": _qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
}
