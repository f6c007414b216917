"""Multiply-accumulates of a graph's nodes, counted from inferred shapes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.operators import CONVOLUTION_KERNEL, GATES
from pytest_onnxcheck.engine.graph.walk import attributes, nodes_of

if TYPE_CHECKING:
    import onnx

    Shape = tuple[int, ...]
    Shapes = Mapping[str, Shape]
    Count = Callable[[onnx.NodeProto, Shapes], int | None]

__all__ = ["multiplies", "multiply_accumulates"]

#: Operators that multiply their first input's last axis with a matrix.
_MATRIX_PRODUCTS = frozenset(
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

#: Operators that multiply and accumulate in a way that is not counted here.
_NOT_COUNTED = frozenset(
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
    kernel = shapes[node.input[CONVOLUTION_KERNEL[node.op_type]]]
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
    gates = GATES[node.op_type]
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
    **dict.fromkeys(CONVOLUTION_KERNEL, _convolution),
    **dict.fromkeys(_MATRIX_PRODUCTS, _product),
    **dict.fromkeys(GATES, _recurrent),
    **dict.fromkeys(_NOT_COUNTED, _uncounted),
}
