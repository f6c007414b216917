"""Multiply-accumulates of a graph's nodes, counted from inferred shapes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.exposed import Exposed
from pytest_onnxcheck.engine.graphs import nodes_of

if TYPE_CHECKING:
    import onnx

    Shape = tuple[int, ...]
    Shapes = Mapping[str, Shape]
    Count = Callable[[onnx.NodeProto, Shapes], int | None]

__all__ = ["attributes", "inferred", "multiplies", "multiply_accumulates", "unpacked"]

#: Position of the kernels [outputs, inputs / group, sizes...].
_CONVOLUTIONS = {"Conv": 1, "ConvInteger": 1, "FusedConv": 1, "QLinearConv": 3}

#: Operators that multiply their first input's last axis with a matrix.
_PRODUCTS = frozenset(
    [
        "DynamicQuantizeMatMul",
        "MatMul",
        "MatMulBnb4",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QLinearMatMul",
    ]
)

#: Number of gates.
_RECURRENT = {"DynamicQuantizeLSTM": 4, "GRU": 3, "LSTM": 4, "RNN": 1}

#: Operators that multiply and accumulate in a way that is not counted here.
_OTHERS = frozenset(
    [
        "DecoderMaskedMultiHeadAttention",
        "DeformConv",
        "FusedMatMul",
        "GroupQueryAttention",
        "MoE",
        "MultiHeadAttention",
        "PackedAttention",
        "QAttention",
        "QMoE",
    ]
)

#: ONNX Runtime's own operators -> a standard one of the same shapes, and which inputs it takes.
_STAND_INS: dict[str, tuple[str, slice]] = {
    "BiasGelu": ("Identity", slice(1)),
    "DequantizeLinear": ("Identity", slice(1)),
    "DynamicQuantizeLSTM": ("LSTM", slice(8)),
    "DynamicQuantizeMatMul": ("MatMul", slice(2)),
    "FastGelu": ("Identity", slice(1)),
    "FusedConv": ("Conv", slice(3)),
    "FusedGemm": ("Gemm", slice(3)),
    "Gelu": ("Identity", slice(1)),
    "MatMulIntegerToFloat": ("MatMul", slice(2)),
    "QGemm": ("Gemm", slice(0, 4, 3)),
    "QLinearAdd": ("Add", slice(0, 4, 3)),
    "QLinearAveragePool": ("AveragePool", slice(1)),
    "QLinearConcat": ("Concat", slice(2, None, 3)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", slice(1)),
    "QLinearLeakyRelu": ("Identity", slice(1)),
    "QLinearMul": ("Mul", slice(0, 4, 3)),
    "QLinearSigmoid": ("Identity", slice(1)),
    "QLinearSoftmax": ("Identity", slice(1)),
    "QuantizeLinear": ("Identity", slice(1)),
    "QuickGelu": ("Identity", slice(1)),
    "SkipLayerNormalization": ("Identity", slice(1)),
}


def multiply_accumulates(
    graph: onnx.GraphProto, shapes: Shapes
) -> Iterator[tuple[onnx.NodeProto, int | None]]:
    """The nodes that multiply and accumulate, each with how often it does.

    Args:
        graph: The graph.
        shapes: Shapes of its values, of its inputs and of its initializers.

    Yields:
        Node and count; None where a shape is unknown, for operators that are not counted here,
        and inside If, Loop and Scan, whose graphs run any number of times.
    """
    for node in graph.node:
        count = _counter(node)
        if count is not None:
            yield node, _attempt(count, node, shapes)
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from ((inner, None) for inner in nodes_of(subgraph) if _counter(inner))


def inferred(
    path: Path, inputs: Mapping[str, Shape]
) -> tuple[onnx.GraphProto, dict[str, Shape], dict[str, int]]:
    """The graph of an artefact, with what onnx's shape inference finds.

    Operators of ONNX Runtime, of which onnx knows no shapes, are replaced by standard ones of the
    same shapes while they are inferred.

    Args:
        path: The artefact.
        inputs: Shapes of its inputs by name.

    Returns:
        The graph without external data, shapes by value, and element types by value.
    """
    import onnx
    import onnx.inliner
    from onnxscript.optimizer import fold_constants

    exposed = Exposed(path)
    if exposed.model.functions:
        exposed.model = onnx.inliner.inline_local_functions(exposed.model)
    light = exposed.skeleton(inputs)
    del light.graph.output[:]  # what is declared of them may contradict the stand-ins
    tensors = {tensor.name: tensor for tensor in exposed.graph.initializer}
    nodes = [_stand_in(node, tensors, light.graph) for node in light.graph.node]
    del light.graph.node[:]
    light.graph.node.extend(nodes)
    shapes = {name: tuple(tensor.dims) for name, tensor in tensors.items()}
    types = {name: tensor.data_type for name, tensor in tensors.items()}
    with contextlib.suppress(Exception):  # what is wrong with a graph is for onnx.checker to say
        known = -1
        while known < len(shapes):  # folding computes sizes in ways that inference does not follow
            known = len(shapes)
            light = _infer(light, shapes, types)
            fold_constants(light)
            _forget_unknown(light, shapes)
    return exposed.graph, shapes, types


def _infer(
    model: onnx.ModelProto, shapes: dict[str, Shape], types: dict[str, int]
) -> onnx.ModelProto:
    """Adds the shapes and types that can be inferred; returns the model with them."""
    import onnx

    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for value in (*model.graph.input, *model.graph.value_info):
        tensor = value.type.tensor_type
        types.setdefault(value.name, tensor.elem_type)
        sizes = [dim.dim_value for dim in tensor.shape.dim if dim.HasField("dim_value")]
        if tensor.HasField("shape") and len(sizes) == len(tensor.shape.dim):
            shapes.setdefault(value.name, tuple(sizes))
    _forget_unknown(model, shapes)
    return model


def _forget_unknown(model: onnx.ModelProto, shapes: Shapes) -> None:
    """Drops what is recorded of values without a shape: it would be kept rather than inferred."""
    kept = [value for value in model.graph.value_info if value.name in shapes]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    import onnx

    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def unpacked(node: onnx.NodeProto, tensor: onnx.TensorProto) -> Shape:
    """The shape of a weight that a node of ONNX Runtime reads, packed or not."""
    import onnx

    found = attributes(node)
    if node.op_type in ("MatMulNBits", "MatMulBnb4"):
        return found["K"], found["N"]
    shape = tuple(tensor.dims)
    if node.op_type == "GatherBlockQuantized" and tensor.data_type == onnx.TensorProto.UINT8:
        return (*shape[:-1], shape[-1] * 8 // found.get("bits", 4))
    return shape


def _stand_in(
    node: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto], graph: onnx.GraphProto
) -> onnx.NodeProto:
    """A standard node of the same shapes; a weight that is packed becomes an input of `graph`."""
    import onnx

    if node.domain != "com.microsoft":
        return node
    weight = f"{node.output[0]}.unpacked"
    if node.op_type in ("MatMulNBits", "MatMulBnb4"):
        standard = onnx.helper.make_node("MatMul", [node.input[0], weight], node.output)
        packed = node.input[1]
    elif node.op_type == "GatherBlockQuantized":
        axis = attributes(node).get("gather_axis", 0)
        standard = onnx.helper.make_node("Gather", [weight, node.input[1]], node.output, axis=axis)
        packed = node.input[0]
    elif node.op_type in _STAND_INS:
        operator, taken = _STAND_INS[node.op_type]
        standard = onnx.helper.make_node(operator, node.input[taken], node.output[:3])
        standard.attribute.extend(node.attribute)
        return standard
    else:
        return node
    if packed not in tensors:
        return node
    shape = unpacked(node, tensors[packed])
    kind = onnx.helper.make_tensor_value_info(weight, onnx.TensorProto.FLOAT, shape)
    graph.input.append(kind)
    return standard


def _counter(node: onnx.NodeProto) -> Count | None:
    """What counts a node's multiply-accumulates; None for one that has none."""
    return _uncounted if _own_attention(node.op_type, node.domain) else _COUNTERS.get(node.op_type)


def multiplies(operator: str, domain: str) -> bool:
    """Whether an operator multiplies and accumulates, as those with weights do."""
    return _own_attention(operator, domain) or operator in _COUNTERS


def _own_attention(operator: str, domain: str) -> bool:
    return domain == "com.microsoft" and operator == "Attention"


def _attempt(count: Count, node: onnx.NodeProto, shapes: Shapes) -> int | None:
    try:
        return count(node, shapes)
    except (KeyError, IndexError):  # a shape is unknown
        return None


def _convolution(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Every output element sums over one kernel: input channels / group x its sizes."""
    kernel = shapes[node.input[_CONVOLUTIONS[node.op_type]]]
    return math.prod(shapes[node.output[0]]) * math.prod(kernel[1:])


def _transposed(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Every input element is multiplied with one kernel: output channels / group x its sizes.

    What falls outside of the output by padding is counted all the same.
    """
    return math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])


def _product(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Every output element of [..., m, k] x [..., k, n] sums k products."""
    return math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]


def _gemm(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Every output element sums over the first matrix's columns, or rows if it is transposed."""
    summed = shapes[node.input[0]][0 if attributes(node).get("transA") else 1]
    return math.prod(shapes[node.output[0]]) * summed


def _recurrent(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Each gate's matrices [hidden, input] and [hidden, hidden], once a step and direction."""
    found = attributes(node)
    first, second, size = shapes[node.input[0]]
    directions = 2 if found.get("direction") == b"bidirectional" else 1
    hidden: int = found["hidden_size"]
    gates = _RECURRENT[node.op_type]
    return first * second * directions * gates * hidden * (size + hidden)


def _attention(node: onnx.NodeProto, shapes: Shapes) -> int | None:
    """Scores: each element of the queries with every key; then each output element sums as many."""
    if len(node.input) > 4 and node.input[4]:  # keys of the past come on top
        return None
    keys = shapes[node.input[1]][-2]
    return (math.prod(shapes[node.input[0]]) + math.prod(shapes[node.output[0]])) * keys


def _einsum(node: onnx.NodeProto, shapes: Shapes) -> int | None:
    """One product for every combination of the indices of two operands."""
    equation = attributes(node)["equation"].decode().replace(" ", "")
    operands = equation.partition("->")[0].split(",")
    if "." in equation or len(operands) != 2:
        return None
    sizes: dict[str, int] = {}
    for letters, name in zip(operands, node.input, strict=True):
        sizes |= dict(zip(letters, shapes[name], strict=True))
    return math.prod(sizes.values())


def _uncounted(node: onnx.NodeProto, shapes: Shapes) -> None:
    return None


_COUNTERS: dict[str, Count] = {
    "Attention": _attention,
    "ConvTranspose": _transposed,
    "Einsum": _einsum,
    "FusedGemm": _gemm,
    "Gemm": _gemm,
    "QGemm": _gemm,
    **dict.fromkeys(_CONVOLUTIONS, _convolution),
    **dict.fromkeys(_PRODUCTS, _product),
    **dict.fromkeys(_RECURRENT, _recurrent),
    **dict.fromkeys(_OTHERS, _uncounted),
}
