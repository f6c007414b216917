"""How much of a model carries a precision: of its weights, and of what it computes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.cache import Artefact
from pytest_onnxcheck.engine.export import check_file
from pytest_onnxcheck.engine.inputs import example_dims
from pytest_onnxcheck.engine.macs import attributes, inferred, multiply_accumulates, unpacked
from pytest_onnxcheck.engine.reference import Reference
from pytest_onnxcheck.engine.structure import nodes_of
from pytest_onnxcheck.engine.weights import lost_weights
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.measurement import (
    CalibrationMeasurement,
    CoverageMeasurement,
    QuantizationMeasurement,
)

if TYPE_CHECKING:
    import onnx

__all__ = ["WEIGHTED", "covered", "measure"]

#: Operators that hold weights and that int8 is meant for.
WEIGHTED = frozenset(["Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "Attention"])

#: Operators that compute on integers themselves.
_INTEGER = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
    }
)

#: Operators that read weights packed several to a byte, and which input that is.
_PACKED = {"GatherBlockQuantized": 0, "MatMulBnb4": 1, "MatMulNBits": 1}

#: Which inputs of an operator are scales and zero points.
_SCALES = {
    "ConvInteger": (2, 3),
    "DequantizeLinear": (1, 2),
    "DynamicQuantizeLSTM": (8, 9, 10, 11),
    "DynamicQuantizeMatMul": (2, 3),
    "GatherBlockQuantized": (2, 3),
    "MatMulBnb4": (2,),
    "MatMulInteger": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "MatMulNBits": (2, 3, 4),
    "QAttention": (3, 4, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
}

#: Which input of an operator is a bias in 32 bits, quantized with the weights.
_BIASES = {"DequantizeLinear": 0, "QGemm": 6, "QLinearConv": 8}

#: onnx.TensorProto's types that carry a precision.
_TYPES = {
    "fp16": ("FLOAT16",),
    "half": ("FLOAT16",),
    "bf16": ("BFLOAT16",),
    "int8-dynamic": ("INT8", "UINT8"),
    "int8-static": ("INT8", "UINT8"),
    "int4-weight": ("INT4", "UINT4"),
}

_FLOATS = ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16")

#: how many nodes that compute in float32 are told
_TOLD = 10


def measure(
    artefact: Artefact, float_artefact: Artefact, reference: Reference, variant: Variant
) -> QuantizationMeasurement:
    """Counts what carries the precision, and what could but does not."""
    import onnx

    graph = onnx.load(artefact.path, load_external_data=False).graph
    converted, remaining = _counted(graph, variant.precision)
    alone = variant.file is not None and all(
        entry.precision != "fp32" for entry in reference.model.variants
    )
    calibration = artefact.notes.get("calibration")
    checkpoint = reference.model.checkpoint
    clipped, vanished = lost_weights(artefact.path, float_artefact.path, variant.precision)
    return QuantizationMeasurement(
        file=check_file(artefact),
        precision=variant.precision,
        float_bytes=None if alone else float_artefact.size_bytes,
        converted=sum(converted.values()),
        converted_kinds=dict(converted),
        remaining=dict(remaining),
        calibration=None if calibration is None else CalibrationMeasurement(**calibration),
        seconds=artefact.seconds,
        options=artefact.notes.get("options", {}),
        coverage=covered(artefact, reference, variant),
        identical=not alone and artefact.sha256 == float_artefact.sha256,
        clipped=clipped,
        vanished=vanished,
        checkpoint_bytes=None if checkpoint is None else checkpoint.stat().st_size,
    )


def covered(artefact: Artefact, reference: Reference, variant: Variant) -> CoverageMeasurement:
    """The shares of weights and of multiply-accumulates that carry a variant's precision.

    A node computes in 16 bits when its first input has them, in int8 when it takes integers or
    when both its operands come from DequantizeLinear, and in int4-weight when its weight is held
    in 4 bits. Counted with `example_dims`.
    """
    dims = example_dims(reference.model)
    inputs = {
        name: tuple(dims[dim] if isinstance(dim, str) else dim for dim in shape)
        for name, shape in reference.shapes.items()
    }
    graph, shapes, types = inferred(artefact.path, inputs)
    dequantized = _dequantized(graph, types)
    total = carried = uncounted = 0
    floating: Counter[str] = Counter()
    for node, count in multiply_accumulates(graph, shapes):
        if count is None:
            uncounted += 1
            continue
        total += count
        if _carries(node, variant.precision, types, dequantized):
            carried += count
        elif count:
            floating[f"{node.op_type} {node.name or node.output[0]!r}"] += count
    return CoverageMeasurement(
        weights=_weights(graph, variant.precision),
        compute=carried / total if total else None,
        uncounted=uncounted,
        floating=tuple((name, n / total) for name, n in floating.most_common(_TOLD)),
    )


def _dequantized(graph: onnx.GraphProto, types: Mapping[str, int]) -> dict[str, int]:
    """Values that come from DequantizeLinear, with the type they had."""
    return {
        node.output[0]: types.get(node.input[0], 0)
        for node in graph.node
        if node.op_type == "DequantizeLinear"
    }


def _carries(
    node: onnx.NodeProto, precision: str, types: Mapping[str, int], dequantized: Mapping[str, int]
) -> bool:
    """Whether a node that multiplies and accumulates does so in a precision."""
    own = _types(precision)
    if precision in ("fp16", "bf16", "half"):
        return types.get(node.input[0]) in own
    operands = node.input[:2]
    if precision == "int4-weight":
        if node.op_type in _PACKED:
            return _in_four_bits(node)
        return len(operands) == 2 and dequantized.get(operands[1]) in own
    return node.op_type in _INTEGER or all(dequantized.get(name) in own for name in operands)


def _in_four_bits(node: onnx.NodeProto) -> bool:
    return bool(attributes(node).get("bits", 4) == 4)


def _types(precision: str) -> set[int]:
    import onnx

    return {onnx.TensorProto.DataType.Value(name) for name in _TYPES[precision]}


def _weights(graph: onnx.GraphProto, precision: str) -> float | None:
    """Share of the elements of the initializers, scales and zero points left out."""
    import onnx

    scales, biases, packed = _scales(graph), set(), {}
    for node in nodes_of(graph):
        if len(node.input) > _BIASES.get(node.op_type, math.inf):
            biases.add(node.input[_BIASES[node.op_type]])
        if node.op_type in _PACKED:
            packed[node.input[_PACKED[node.op_type]]] = node
    kind = onnx.TensorProto.DataType
    floats = {kind.Value(name) for name in _FLOATS}
    quantized = _types("int8-static") | _types("int4-weight")
    own = _types(precision)
    total = carried = 0
    for tensor in graph.initializer:
        if tensor.name in scales:
            continue
        reader = packed.get(tensor.name)
        bias = tensor.data_type == kind.Value("INT32") and tensor.name in biases
        if reader is None and tensor.data_type not in floats | quantized and not bias:
            continue
        size = math.prod(tensor.dims if reader is None else unpacked(reader, tensor))
        total += size
        if reader is not None:
            carried += size * (precision == "int4-weight" and _in_four_bits(reader))
        elif tensor.data_type in own or (bias and precision.startswith("int8")):
            carried += size
    return carried / total if total else None


def _scales(graph: onnx.GraphProto) -> set[str]:
    """Names of scales and zero points."""
    found: set[str] = set()
    # the scale of a MatMulInteger's weight is multiplied with that of its dynamic input
    dynamic = {node.output[1] for node in graph.node if node.op_type == "DynamicQuantizeLinear"}
    for node in nodes_of(graph):
        slots = _SCALES.get(node.op_type, ())
        found.update(node.input[slot] for slot in slots if slot < len(node.input))
        if node.op_type == "Mul" and dynamic & set(node.input):
            found.update(node.input)
    return found


def _counted(graph: onnx.GraphProto, precision: str) -> tuple[Counter[str], Counter[str]]:
    """What carries the precision and what could, by kind."""
    if precision in ("fp16", "bf16", "half"):
        return _tensors(graph, precision)
    return _int4(graph) if precision == "int4-weight" else _int8(graph)


def _tensors(graph: onnx.GraphProto, precision: str) -> tuple[Counter[str], Counter[str]]:
    import onnx

    own = "bfloat16" if precision == "bf16" else "float16"
    names = {
        onnx.TensorProto.DataType.Value(name.upper()): f"{name} tensors" for name in (own, "float")
    }
    kinds = Counter(
        names[tensor.data_type] for tensor in graph.initializer if tensor.data_type in names
    )
    converted = Counter({kind: count for kind, count in kinds.items() if "16" in kind})
    return converted, kinds - converted


def _int4(graph: onnx.GraphProto) -> tuple[Counter[str], Counter[str]]:
    """Nodes on packed weights, and those with weights in float."""
    constants = {tensor.name for tensor in graph.initializer}
    converted: Counter[str] = Counter()
    remaining: Counter[str] = Counter()
    for node in nodes_of(graph):
        if node.op_type in _PACKED:
            converted[node.op_type] += 1
        elif node.op_type in WEIGHTED and constants & set(node.input[1:2]):
            remaining[node.op_type] += 1
    return converted, remaining


def _int8(graph: onnx.GraphProto) -> tuple[Counter[str], Counter[str]]:
    """Nodes on integers (their own, or between Dequantize nodes), and weighted ones in float."""
    dequantized = {
        name
        for node in nodes_of(graph)
        if node.op_type == "DequantizeLinear"
        for name in node.output
    }
    converted: Counter[str] = Counter()
    remaining: Counter[str] = Counter()
    for node in nodes_of(graph):
        if node.op_type in _INTEGER:
            converted[node.op_type] += 1
        elif node.op_type in WEIGHTED:
            # the second input is the weight; a bias alone does not make a node quantized
            quantized = len(node.input) > 1 and node.input[1] in dequantized
            (converted if quantized else remaining)[node.op_type] += 1
    return converted, remaining
