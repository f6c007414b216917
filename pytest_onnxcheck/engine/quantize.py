"""From the fp32 artefact to another precision, with ONNX Runtime's own tools."""

from __future__ import annotations

import contextlib
import itertools
import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.cache import Artefact
from pytest_onnxcheck.engine.export import check_file
from pytest_onnxcheck.engine.inputs import example_dims, fill_inputs, load_arrays
from pytest_onnxcheck.engine.reference import Reference, import_object
from pytest_onnxcheck.engine.runtime import import_onnxruntime
from pytest_onnxcheck.engine.structure import nodes_of
from pytest_onnxcheck.errors import QuantizeError, StageError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.measurement import QuantizationMeasurement

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Batch = dict[str, np.ndarray[Any, Any]]

__all__ = ["measure", "quantize"]

#: Operators dynamic quantization is applied to. Convolutions are left out: as ConvInteger they
#: run 1.5 to 5 times slower than in fp32 (measured on a ResNet-18).
_DYNAMIC_OPERATORS = ["MatMul", "Attention", "LSTM", "Gather", "EmbedLayerNormalization"]

#: Operators that hold weights and that int8 is meant for.
_WEIGHTED = frozenset(["Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "Attention"])

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


def quantize(reference: Reference, variant: Variant, source: Path, path: Path) -> dict[str, str]:
    """Writes the fp32 artefact `source` in the variant's precision to `path`.

    Returns:
        Notes for the report: where calibration data came from.

    Raises:
        QuantizeError: The tool failed on this graph, or there is no usable calibration data.
    """
    convert = {"fp16": _fp16, "int8-dynamic": _int8_dynamic, "int8-static": _int8_static}
    import_onnxruntime()
    try:
        with _quiet():
            return convert[variant.precision](reference, source, path)
    except StageError:
        raise
    except Exception as error:
        raise QuantizeError(
            f"{reference.model.name}: {variant.precision} of {source} failed: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
        ) from error


def measure(
    artefact: Artefact, float_artefact: Artefact, variant: Variant
) -> QuantizationMeasurement:
    """Counts what carries the precision, and what could but does not."""
    import onnx

    graph = onnx.load(artefact.path, load_external_data=False).graph
    converted, remaining = _fp16_tensors(graph) if variant.precision == "fp16" else _int8(graph)
    same_file = artefact.path == float_artefact.path
    return QuantizationMeasurement(
        file=check_file(artefact),
        precision=variant.precision,
        float_bytes=None if same_file else float_artefact.size_bytes,
        converted=sum(converted.values()),
        converted_kinds=dict(converted),
        remaining=dict(remaining),
        calibration=artefact.notes.get("calibration"),
        seconds=artefact.seconds,
    )


def _fp16(reference: Reference, source: Path, path: Path) -> dict[str, str]:
    import onnx
    import onnx_ir
    from onnx_ir.passes.common import TopologicalSortPass
    from onnxruntime.transformers.float16 import convert_float_to_float16

    converted = convert_float_to_float16(onnx.load(source), keep_io_types=True)
    _drop_shapes_of_initializers(converted.graph)  # some of them keep the type they had
    # the converter appends the casts of the inputs behind the nodes that read them
    ordered = TopologicalSortPass()(onnx_ir.from_proto(converted)).model
    onnx.save(onnx_ir.to_proto(ordered), path)
    return {}


def _int8_dynamic(reference: Reference, source: Path, path: Path) -> dict[str, str]:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _prepared(source) as prepared:
        quantize_dynamic(
            prepared,
            path,
            op_types_to_quantize=_DYNAMIC_OPERATORS,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    return {}


def _int8_static(reference: Reference, source: Path, path: Path) -> dict[str, str]:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, batches: Iterable[Batch]) -> None:
            self.batches = iter(batches)

        def get_next(self) -> Batch | None:
            return next(self.batches, None)

    origin, batches = _calibration(reference)
    with _prepared(source) as prepared:
        quantize_static(
            prepared,
            path,
            Reader(batches),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return {"calibration": origin}


@contextlib.contextmanager
def _prepared(source: Path) -> Iterator[Path]:
    """A copy of the file as the quantizers need it: shapes inferred, no shared weights."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        unshared, prepared = Path(folder) / "unshared.onnx", Path(folder) / "prepared.onnx"
        model = onnx.load(source)
        _unshare_initializers(model.graph)
        onnx.save(model, unshared)
        # symbolic shape inference fails on some healthy graphs, and needs sympy
        quant_pre_process(unshared, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        _drop_shapes_of_initializers(model.graph)
        onnx.save(model, prepared)
        yield prepared


def _unshare_initializers(graph: onnx.GraphProto) -> None:
    """Gives every node its own copy of a weight: on shared ones the quantizer is silently wrong."""
    import onnx

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    seen: Counter[str] = Counter()
    for node in graph.node:
        if node.op_type not in _WEIGHTED and node.op_type != "Gather":
            continue
        for index, name in enumerate(node.input):
            if name in tensors:
                seen[name] += 1
                if seen[name] > 1:
                    copied = onnx.TensorProto()
                    copied.CopyFrom(tensors[name])
                    copied.name = f"{name}.{seen[name]}"
                    graph.initializer.append(copied)
                    node.input[index] = copied.name


def _drop_shapes_of_initializers(graph: onnx.GraphProto) -> None:
    """Drops shapes and types that are recorded twice: converters change weights, not these."""
    names = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.value_info if value.name not in names]
    del graph.value_info[:]
    graph.value_info.extend(kept)


def _calibration(reference: Reference) -> tuple[str, Iterable[Batch]]:
    """Where the calibration data comes from, and its batches."""
    model, wanted = reference.model, reference.model.calibration
    if wanted is not None and wanted.file is not None:
        path = model.root / wanted.file
        arrays = load_arrays(path, list(model.inputs))
        count = min([wanted.count, *(len(array) for array in arrays.values())])
        if count == 0:
            raise QuantizeError(f"{path}: no examples to calibrate with")
        return f"{count} examples of {wanted.file}", (
            {name: array[row : row + 1] for name, array in arrays.items()} for row in range(count)
        )
    if wanted is not None and wanted.source is not None:
        source = import_object(wanted.source, model.root)
        batches = list(itertools.islice(source(), wanted.count))
        if not batches:
            raise QuantizeError(f"calibration source {wanted.source}: gave no batches")
        return f"{len(batches)} batches of {wanted.source}", batches
    dims = example_dims(model)
    draws = 16
    return f"{draws} random draws", (
        fill_inputs(reference, dims, f"calibration{draw}", draw) for draw in range(draws)
    )


def _fp16_tensors(graph: onnx.GraphProto) -> tuple[Counter[str], Counter[str]]:
    import onnx

    names = {onnx.TensorProto.FLOAT16: "float16 tensors", onnx.TensorProto.FLOAT: "float32 tensors"}
    kinds = Counter(
        names[tensor.data_type] for tensor in graph.initializer if tensor.data_type in names
    )
    converted = Counter({kind: count for kind, count in kinds.items() if "16" in kind})
    return converted, kinds - converted


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
        elif node.op_type in _WEIGHTED:
            # the second input is the weight; a bias alone does not make a node quantized
            quantized = len(node.input) > 1 and node.input[1] in dequantized
            (converted if quantized else remaining)[node.op_type] += 1
    return converted, remaining


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantizers log to the root logger
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
