"""ONNX Runtime's 8-bit operators in numpy, as x86 CPUs with and without VNNI compute them.

An x86 CPU without VNNI multiplies unsigned by signed bytes with `vpmaddubsw`, which adds up the
products of two neighbours along the inner dimension (k and k + 1, k even) and saturates their sum
to 16 bits. With VNNI, and for unsigned weights, products are added up in 32 bits. Signed
activations are made unsigned first (128 is added to them and to their zero point). A convolution's
inner dimension is its kernel's positions, then the channels of a group. Two kernels add up in 32
bits everywhere: that of depthwise convolutions, and that of ConvInteger, whose weights are the
operand that is made unsigned.

What is computed beside the products (zero points, scales, rounding half to even) follows MLAS,
ONNX Runtime's kernels: accumulators become float32, are multiplied by the float32 product of the
scales, clipped and rounded.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["OPERATORS", "Products", "compute", "saturable", "weights"]

#: Operator that can saturate -> positions of the weights and of their zero points.
OPERATORS: dict[str, tuple[tuple[int, int], ...]] = {
    "DynamicQuantizeLSTM": ((1, 9), (2, 11)),
    "DynamicQuantizeMatMul": ((1, 3),),
    "MatMulInteger": ((1, 3),),
    "MatMulIntegerToFloat": ((1, 5),),
    "QGemm": ((3, 5),),
    "QLinearConv": ((3, 5),),
    "QLinearMatMul": ((3, 5),),
}

_CONVOLUTION = frozenset(
    ["auto_pad", "channels_last", "dilations", "group", "kernel_shape", "pads", "strides"]
)
#: Operator -> the attributes that are known here; the others have none.
_KNOWN = {
    "DynamicQuantizeLSTM": frozenset(["activations", "direction", "hidden_size", "input_forget"]),
    "QGemm": frozenset(["alpha", "transA", "transB"]),
    "QLinearConv": _CONVOLUTION,
}

_LOWEST, _HIGHEST = -(2**15), 2**15 - 1

#: The largest unsigned byte.
_BYTE = 255

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
    return sum(int(np.count_nonzero(_candidates(one, other))) for one, other in _pairs(weight))


def weights(node: onnx.NodeProto, weight: Array) -> list[Array]:
    """A node's weight as matrices [K, N] in the order in which its kernel adds up pairs, if any."""
    if node.op_type == "QLinearConv":
        groups = _attributes(node).get("group", 1)
        return [] if _is_depthwise(weight, groups) else _kernels(weight, groups)
    if node.op_type == "QGemm":
        return [weight.T if _attributes(node).get("transB", 0) else weight]
    if weight.ndim == 1:
        return [weight[:, None]]
    return list(weight.reshape(-1, *weight.shape[-2:]))


def compute(
    node: onnx.NodeProto, inputs: Sequence[Array | None], products: Products
) -> dict[str, Array]:
    """What a node of `OPERATORS` gives.

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

    read, attributes = [*inputs, *[None] * (12 - len(inputs))], _attributes(node)
    strange = sorted(attributes.keys() - _KNOWN.get(node.op_type, frozenset()))
    if strange:
        raise NotImplementedError(f"attribute {', '.join(strange)} is not known")
    with np.errstate(all="ignore"):
        outputs = _COMPUTE[node.op_type](read, attributes, products)
    return {name: array for name, array in zip(node.output, outputs, strict=False) if name}


# ------------------------------------------------------------------------------- products


def _pairs(weight: Array) -> Iterator[tuple[Array, Array]]:
    """Rows k and k + 1 of a weight, k even, in int32; zeros beyond the last."""
    import numpy as np

    wide = weight.astype(np.int32)
    for k in range(0, len(wide), 2):
        yield wide[k], wide[k + 1] if k + 1 < len(wide) else np.zeros_like(wide[k])


def _candidates(one: Array, other: Array, most: tuple[int, int] = (_BYTE, _BYTE)) -> Array:
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


# ------------------------------------------------------------------------ what is around them


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    import onnx

    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def _unsigned(array: Array, zero: Array | None) -> tuple[Array, int]:
    """Activations as bytes without a sign, and their zero point."""
    import numpy as np

    if zero is not None and zero.size > 1:
        raise NotImplementedError("activations with a zero point per row are not known")
    point = 0 if zero is None else int(zero.reshape(-1)[0])
    if array.dtype == np.int8:
        return (array.astype(np.int16) + 128).astype(np.uint8), point + 128
    return array, point


def _accumulators(
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
    accumulators: Array = whole - sums
    return accumulators


def _matmul(
    left: Array, zero: int, right: Array, right_zero: Array | None, products: Products
) -> Array:
    """`_accumulators` of [..., M, K] and [..., K, N], which are broadcast."""
    import numpy as np

    if right.ndim == 2:
        rows = left.reshape(-1, left.shape[-1])
        found = _accumulators(rows, zero, right, right_zero, products)
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
        found[index] = _accumulators(one, zero, other, right_zero, products)
    return found.reshape(*stack, *found.shape[-2:])


def _quantized(values: Array) -> tuple[Array, int, np.float32]:
    """Floats as bytes over their own range: bytes, zero point and scale (DynamicQuantizeLinear)."""
    import numpy as np

    if not np.isfinite(values).all():
        raise NotImplementedError("NaN or infinity that is quantized is not known")
    low = np.float32(min(values.min(initial=0.0), 0.0))
    high = np.float32(max(values.max(initial=0.0), 0.0))
    scale = np.float32(1) if high == low else np.float32((high - low) / np.float32(_BYTE))
    zero = int(np.rint(np.clip(np.float32(0) - low / scale, 0, _BYTE)))
    rounded = np.clip(np.rint(values / scale) + zero, 0, _BYTE)
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
    return [_matmul(left, zero, b, b_zero, products).astype(np.int32)]


def _matmul_integer_to_float(read: _Inputs, _: _Attributes, products: Products) -> list[Array]:
    import numpy as np

    a, b, a_scale, b_scale, a_zero, b_zero, bias = read[:7]
    left, zero = _unsigned(a, a_zero)
    found = _matmul(left, zero, b, b_zero, products).astype(np.float32)
    found *= _scalar(a_scale) * b_scale.reshape(-1)
    return [found if bias is None else found + bias]


def _dynamic_quantize_matmul(read: _Inputs, _: _Attributes, products: Products) -> list[Array]:
    import numpy as np

    a, b, b_scale, b_zero, bias = read[:5]
    left, zero, scale = _quantized(a)
    found = _matmul(left, zero, b, b_zero, products).astype(np.float32)
    found *= scale * b_scale.reshape(-1)
    return [found if bias is None else found + bias]


def _qlinear_matmul(read: _Inputs, _: _Attributes, products: Products) -> list[Array]:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = read[:8]
    left, zero = _unsigned(a, a_zero)
    found = _matmul(left, zero, b, b_zero, products)
    scale = _scalar(a_scale) * b_scale.reshape(-1) / _scalar(y_scale)
    return [_requantized(found, scale, y_zero, _dtype(y_zero, a))]


def _qgemm(read: _Inputs, attributes: _Attributes, products: Products) -> list[Array]:
    import numpy as np

    a, a_scale, a_zero, b, b_scale, b_zero, bias, y_scale, y_zero = read[:9]
    left, zero = _unsigned(a.T if attributes.get("transA", 0) else a, a_zero)
    right = b.T if attributes.get("transB", 0) else b
    found = _accumulators(left, zero, right, b_zero, products)
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
    found = _convolved(image, zero, w, w_zero, attributes, products)
    per_channel = (1, -1, *[1] * (found.ndim - 2))
    if bias is not None:
        found = found + bias.reshape(per_channel)
    scale = (_scalar(x_scale) * w_scale.reshape(-1) / _scalar(y_scale)).reshape(per_channel)
    y = _requantized(found, scale, y_zero, _dtype(y_zero, x))
    return [np.moveaxis(y, 1, -1) if channels_last else y]


def _convolved(
    image: Array,
    zero: int,
    weight: Array,
    weight_zero: Array | None,
    attributes: _Attributes,
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
    kernels = _kernels(weight, groups)
    points = [weight_zero] * groups
    if weight_zero is not None and weight_zero.size > 1:
        points = list(weight_zero.reshape(groups, -1))
    paired = not _is_depthwise(weight, groups)
    share, each = channels // groups, len(weight) // groups
    found = np.empty((batch, len(weight), *out), np.int64)
    for index, group in itertools.product(range(batch), range(groups)):
        own = windows[index, group * share : (group + 1) * share]
        # [channels, out..., kernel...] -> [out..., kernel..., channels]
        rows = np.moveaxis(own, 0, -1).reshape(math.prod(out), -1)
        sums = _accumulators(rows, zero, kernels[group], points[group], products, paired=paired)
        found[index, group * each : (group + 1) * each] = sums.T.reshape(each, *out)
    return found


def _kernels(weight: Array, groups: int) -> list[Array]:
    """A convolution's weight [outputs, inputs / groups, sizes...] as [K, outputs / groups] each."""
    import numpy as np

    return [
        np.moveaxis(part, 1, -1).reshape(len(part), -1).T
        for part in weight.reshape(groups, -1, *weight.shape[1:])
    ]


def _is_depthwise(weight: Array, groups: int) -> bool:
    """Whether every channel has a kernel of its own."""
    return len(weight) == groups and weight.shape[1] == 1


def _padding(
    sizes: Sequence[int], reach: Sequence[int], strides: Sequence[int], attributes: _Attributes
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
    found = _accumulators(left, point, weight, zero, products).astype(np.float32)
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
