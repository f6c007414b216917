"""How much of a graph carries a precision: of its weights, and of what it computes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.macs import multiply_accumulates
from pytest_onnxcheck.engine.graph.operators import (
    INT32_BIAS,
    INTEGER_COMPUTE,
    PACKED_WEIGHT,
    SCALES_AND_ZERO_POINTS,
    holds_weights,
)
from pytest_onnxcheck.engine.graph.shapes import inferred, unpacked
from pytest_onnxcheck.engine.graph.walk import attributes, constants, nodes_of
from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.measurement import CoverageMeasurement

if TYPE_CHECKING:
    import onnx

__all__ = ["InferredGraph", "converted", "coverage"]

_FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")

#: How many nodes that compute in float32 are listed.
_MOST_NODES_LISTED = 10


@dataclass(frozen=True)
class InferredGraph:
    """A graph, and what is known of its values by name.

    Attributes:
        graph: The graph, without external data.
        shapes: Shapes.
        types: Element types, as onnx.TensorProto numbers them.
        dequantized: What comes from DequantizeLinear, with the type it had.
    """

    graph: onnx.GraphProto
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, int]
    dequantized: Mapping[str, int]

    @classmethod
    def read(cls, path: Path, inputs: Mapping[str, tuple[int, ...]]) -> InferredGraph:
        """Reads a file and infers its values' shapes and types.

        Args:
            path: The `.onnx` file; its external data is not read.
            inputs: Shapes of its inputs by name, all of them sizes.
        """
        graph, shapes, types = inferred(path, inputs)
        # what is inside If, Loop and Scan is not inferred
        types = {name: tensor.data_type for name, tensor in constants(graph)} | types
        dequantized = {
            node.output[0]: types.get([*node.input, ""][2] or node.input[0], 0)
            for node in nodes_of(graph)
            if node.op_type == "DequantizeLinear"
        }
        return cls(graph, shapes, types, dequantized)


def coverage(values: InferredGraph, precision: str) -> CoverageMeasurement:
    """The shares of weights and of multiply-accumulates that carry a precision.

    A node computes in 16 bits when its first input has them, in int8 when it takes integers or
    when both its operands come from DequantizeLinear, and in int4-weight when its weight is held
    in 4 bits.
    """
    total = carried = uncounted = 0
    floating: Counter[str] = Counter()
    for node, count in multiply_accumulates(values.graph, values.shapes):
        if count is None:
            uncounted += 1
            continue
        total += count
        if _carries(node, precision, values):
            carried += count
        elif count:
            floating[f"{node.op_type} {node.name or node.output[0]!r}"] += count
    return CoverageMeasurement(
        weights=_weights(values.graph, precision),
        compute=carried / total if total else None,
        uncounted=uncounted,
        floating=tuple((name, n / total) for name, n in floating.most_common(_MOST_NODES_LISTED)),
    )


def converted(values: InferredGraph, precision: str) -> tuple[Counter[str], Counter[str]]:
    """Counts what carries a precision, and what could but does not.

    Returns:
        Two tables of kind -> number. For 16 bits, tensors are counted, by type (e.g. `float16
        tensors`); for other precisions nodes, by operator.
    """
    if PRECISIONS[precision].floats:
        return _tensors(values.graph, precision)
    held = values.dequantized.keys() | {name for name, _ in constants(values.graph)}
    carrying: Counter[str] = Counter()
    remaining: Counter[str] = Counter()
    for node in nodes_of(values.graph):
        weighted = holds_weights(node)
        known = weighted or node.op_type in INTEGER_COMPUTE | PACKED_WEIGHT.keys() | {"Gather"}
        if known and _carries(node, precision, values):
            carrying[node.op_type] += 1
        elif weighted and held & set(node.input[1:2]):
            remaining[node.op_type] += 1
    return carrying, remaining


def _carries(node: onnx.NodeProto, precision: str, values: InferredGraph) -> bool:
    """Whether a node that multiplies and accumulates, or a Gather, does so in a precision."""
    own = _types(precision)
    if PRECISIONS[precision].floats:
        return values.types.get(node.input[0]) in own
    operands = node.input[:2]
    if PRECISIONS[precision].bits == 4:
        if node.op_type in PACKED_WEIGHT:
            return _in_four_bits(node)
        return len(operands) == 2 and values.dequantized.get(operands[1]) in own
    if node.op_type == "Gather":
        return {values.types.get(operands[0]), values.dequantized.get(operands[0])} & own != set()
    return node.op_type in INTEGER_COMPUTE or all(
        values.dequantized.get(name) in own for name in operands
    )


def _in_four_bits(node: onnx.NodeProto) -> bool:
    return bool(attributes(node).get("bits", 4) == 4)


def _types(precision: str) -> set[int]:
    import onnx

    return {onnx.TensorProto.DataType.Value(name) for name in PRECISIONS[precision].tensors}


def _weights(graph: onnx.GraphProto, precision: str) -> float | None:
    """Share of the weights' elements; scales, zero points and numbers by themselves are none."""
    import onnx

    scales, biases, packed = _scales(graph), set(), {}
    for node in nodes_of(graph):
        if len(node.input) > INT32_BIAS.get(node.op_type, math.inf):
            biases.add(node.input[INT32_BIAS[node.op_type]])
        if node.op_type in PACKED_WEIGHT:
            packed[node.input[PACKED_WEIGHT[node.op_type]]] = node
    kind = onnx.TensorProto.DataType
    floats = {kind.Value(name) for name in _FLOATS}
    integers = (name for name, traits in PRECISIONS.items() if not traits.floats)
    quantized = set().union(*map(_types, integers))
    own, bits = _types(precision), PRECISIONS[precision].bits
    total = carried = 0
    for name, tensor in constants(graph):
        if name in scales or not tensor.dims:
            continue
        reader = packed.get(name)
        bias = tensor.data_type == kind.Value("INT32") and name in biases
        if reader is None and tensor.data_type not in floats | quantized and not bias:
            continue
        size = math.prod(tensor.dims if reader is None else unpacked(reader, tensor))
        total += size
        if reader is not None:
            carried += size * (bits == 4 and _in_four_bits(reader))
        elif tensor.data_type in own or (bias and bits == 8):
            carried += size
    return carried / total if total else None


def _scales(graph: onnx.GraphProto) -> set[str]:
    """Names of scales and zero points."""
    found: set[str] = set()
    # the scale of a MatMulInteger's weight is multiplied with that of its dynamic input
    dynamic = {
        node.output[1] for node in nodes_of(graph) if node.op_type == "DynamicQuantizeLinear"
    }
    for node in nodes_of(graph):
        slots = SCALES_AND_ZERO_POINTS.get(node.op_type, ())
        found.update(node.input[slot] for slot in slots if slot < len(node.input))
        if node.op_type == "Mul" and dynamic & set(node.input):
            found.update(node.input)
    return found


def _tensors(graph: onnx.GraphProto, precision: str) -> tuple[Counter[str], Counter[str]]:
    import onnx

    own = PRECISIONS[precision].floats
    names = {
        onnx.TensorProto.DataType.Value(name.upper()): f"{name} tensors" for name in (own, "float")
    }
    types = (tensor.data_type for _, tensor in constants(graph))
    kinds = Counter(names[entry] for entry in types if entry in names)
    carrying = Counter({kind: count for kind, count in kinds.items() if "16" in kind})
    return carrying, kinds - carrying
