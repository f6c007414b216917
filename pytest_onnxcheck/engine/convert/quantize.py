"""From the fp32 artefact to another precision: one function a precision.

The conversions are those of ONNX Runtime's own tools. `half` is none: the module itself is cast
and exported. The options are the manifest's (`sections.Quantization`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pytest_onnxcheck.engine.artefacts.artefact import Notes, artefact_files
from pytest_onnxcheck.engine.convert.export import MAX_INLINE_BYTES, export
from pytest_onnxcheck.engine.convert.prepare import (
    AS_PREPARED,
    OptionError,
    check_operators,
    excluded,
    graph_of,
    prepared,
    quantizable,
)
from pytest_onnxcheck.engine.convert.sixteen_bits import to_bfloat16, to_float16
from pytest_onnxcheck.engine.inputs.calibration import CalibrationData
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.session import import_onnxruntime
from pytest_onnxcheck.errors import QuantizeError, StageError
from pytest_onnxcheck.manifest import Model, Variant
from pytest_onnxcheck.manifest.sections import BUILTIN_QUANTIZATION, Quantization

__all__ = ["quantize", "resolved_options"]

#: Operators a precision is applied to when none are named. int8-dynamic leaves convolutions out:
#: as ConvInteger they run 1.5 to 5 times slower than in fp32 (measured on a ResNet-18).
_OPERATORS = {
    "int8-dynamic": ("MatMul", "Attention", "LSTM", "Gather", "EmbedLayerNormalization"),
    "int4-weight": ("MatMul",),
}

#: What MatMulNBitsQuantizer knows; a Gemm is made a MatMul and an Add first.
_INT4_OPERATORS = ("MatMul", "Gather")

#: Bins of the histograms for the entropy method, as NVIDIA describes it (GTC 2017, S7310); the
#: tool's own number for percentiles. It takes half a second a value.
_BINS = 2048


def quantize(
    reference: Reference,
    variant: Variant,
    source: Path,
    path: Path,
    calibration: CalibrationData | None = None,
) -> Notes:
    """Writes the fp32 artefact `source` in the variant's precision to `path`.

    Args:
        reference: The PyTorch model; `half` is exported from it.
        variant: The precision and its options.
        source: The fp32 artefact.
        path: The file to write.
        calibration: What int8-static takes its ranges from; the others need none.

    Returns:
        Notes: options, narrowed inputs and outputs and, for int8-static, calibration data; for
        `half` also those of its export.

    Raises:
        QuantizeError: The tool failed on this graph, or an option does not fit it.
        ExportError: `half` cannot be exported.
    """
    notes = Notes()
    if variant.precision == "half":
        notes = export(reference, variant, path, half=True)
    else:
        _convert(reference, variant, source, path, calibration)
    return dataclasses.replace(
        notes,
        options=resolved_options(variant),
        narrowed=_narrowed(path, reference.model),
        calibration=None if calibration is None else calibration.measured,
    )


def _convert(
    reference: Reference,
    variant: Variant,
    source: Path,
    path: Path,
    calibration: CalibrationData | None,
) -> None:
    own = reference.model.own_quantization(variant).op_block_list is not None
    convert: dict[str, Callable[[Path, Path, Quantization], None]] = {
        "fp16": functools.partial(to_float16, own),
        "bf16": functools.partial(to_bfloat16, own),
        "int8-dynamic": _int8_dynamic,
        "int8-static": functools.partial(_int8_static, calibration),
        "int4-weight": _int4_weight,
    }
    import_onnxruntime()
    name = f"{reference.model.name}: {variant.precision}"
    size = sum(file.stat().st_size for file in artefact_files(source))
    if size > MAX_INLINE_BYTES:
        raise QuantizeError(
            f"{name}: the fp32 artefact has {size / 1e9:.2f} GB, and more than "
            f"{MAX_INLINE_BYTES / 1e9:.2f} GB cannot be converted: ONNX Runtime's tools hold a "
            "model in one protobuf message. Of precisions other than fp32, `half` is exported "
            "and can be larger; a file converted elsewhere can be given with key `onnx`"
        )
    try:
        with _quiet():
            convert[variant.precision](source, path, _filled(variant))
    except StageError:
        raise
    except OptionError as error:
        raise QuantizeError(f"{name}: {error}") from None
    except Exception as error:
        raise QuantizeError(
            f"{name} of {source} failed: {type(error).__name__}: "
            f"{' '.join(str(error).split())[:600]}"
        ) from error


def resolved_options(variant: Variant) -> dict[str, Any]:
    """The options a variant is made with, by name, as JSON has them."""
    options = _filled(variant)
    if options.operators is None and variant.precision in _OPERATORS:
        options = options.model_copy(update={"operators": _OPERATORS[variant.precision]})
    values = {name: getattr(options, name) for name in sorted(_names(variant))}
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in values.items()
    }


def _filled(variant: Variant) -> Quantization:
    """The variant's options with what follows from the CPUs it is made for filled in."""
    if "reduce_range" not in _names(variant):
        return variant.quantization
    return variant.quantization.model_copy(update={"reduce_range": variant.reduces_range})


def _names(variant: Variant) -> set[str]:
    """The options a precision has."""
    return BUILTIN_QUANTIZATION[variant.precision].model_fields_set


def _narrowed(path: Path, model: Model) -> tuple[str, ...]:
    """Inputs and outputs that have 16 bits in the artefact and are declared as float32."""
    from onnx import TensorProto

    graph = graph_of(path)
    declared = {name: entry.dtype for name, entry in model.inputs.items()}
    declared |= {name: entry.dtype for name, entry in model.outputs.items()}
    return tuple(
        value.name
        for value in (*graph.input, *graph.output)
        if value.type.tensor_type.elem_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16)
        and declared.get(value.name) == "float32"
    )


def _int8_dynamic(source: Path, path: Path, options: Quantization) -> None:
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.registry import IntegerOpsRegistry

    # the tool does away with Gemm as well, after it has read the names of nodes
    with prepared(source, without_gemm=True) as file:
        graph = graph_of(file)
        check_operators(options, graph, IntegerOpsRegistry)
        operators = options.operators or quantizable(_OPERATORS["int8-dynamic"], graph)
        quantize_dynamic(
            file,
            path,
            op_types_to_quantize=list(operators),
            per_channel=options.per_channel,
            reduce_range=options.reduce_range,
            weight_type=_quant_type(options.weight_type),
            nodes_to_exclude=excluded(options, graph, AS_PREPARED.format(source)),
        )


def _int8_static(
    calibration: CalibrationData | None, source: Path, path: Path, options: Quantization
) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, quantize_static
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    assert calibration is not None
    method = CalibrationMethod.MinMax
    extra: dict[str, Any] = {"ActivationSymmetric": options.symmetric}
    if options.method != "minmax":
        _check_one_shape(calibration, options.method or "")
    if options.method == "percentile":
        method = CalibrationMethod.Percentile
        extra["CalibPercentile"] = options.percentile
    with prepared(source) as file:
        graph = graph_of(file)
        supported = {**QDQRegistry, **QLinearOpsRegistry}
        check_operators(options, graph, supported)
        if options.method == "entropy":
            extra["TensorQuantOverrides"] = _entropy_ranges(
                file, calibration, list(options.operators or supported)
            )
        quantize_static(
            file,
            path,
            _reader(calibration),
            quant_format=QuantFormat.QDQ,
            calibrate_method=method,
            op_types_to_quantize=list(options.operators or ()),
            per_channel=options.per_channel,
            reduce_range=options.reduce_range,
            activation_type=_quant_type(options.activation_type),
            weight_type=_quant_type(options.weight_type),
            nodes_to_exclude=excluded(options, graph, AS_PREPARED.format(source)),
            extra_options=extra,
        )


def _int4_weight(source: Path, path: Path, options: Quantization) -> None:
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    with prepared(source, without_gemm=True) as file:
        model = onnx.load(file)
    check_operators(options, model.graph, _INT4_OPERATORS)
    quantizer = MatMulNBitsQuantizer(
        model,
        bits=4,
        block_size=options.block_size,
        is_symmetric=options.symmetric,
        accuracy_level=options.accuracy_level,
        nodes_to_exclude=excluded(options, model.graph, AS_PREPARED.format(source)),
        op_types_to_quantize=options.operators or _OPERATORS["int4-weight"],
    )
    quantizer.process()
    quantizer.model.save_model_to_file(path)


def _entropy_ranges(
    file: Path, calibration: CalibrationData, operators: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """The ranges of the values by entropy, as overrides of those by minimum and maximum.

    `quantize_static` cannot be told the number of bins, and with its own, which is as many as
    quantized ones, there is one range to choose from: all of it (onnxruntime 1.31).
    """
    from onnxruntime.quantization import CalibrationMethod, create_calibrator

    calibrator = create_calibrator(
        file,
        operators,
        augmented_model_path=str(file.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod.Entropy,
        extra_options={"num_bins": _BINS},
    )
    calibrator.collect_data(_reader(calibration))
    ranges = {name: data.range_value for name, data in calibrator.compute_data().items()}
    return {name: [{"rmin": low, "rmax": high}] for name, (low, high) in ranges.items()}


def _reader(calibration: CalibrationData) -> Any:
    """The batches, as the tool asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(calibration.batches)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    return Reader()


def _check_one_shape(calibration: CalibrationData, method: str) -> None:
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for batch in calibration.batches:
        for name, array in batch.items():
            shapes.setdefault(name, set()).add(array.shape)
    for name, found in shapes.items():
        if len(found) > 1:
            shown = " and ".join(str(list(shape)) for shape in sorted(found)[:2])
            raise OptionError(
                f'method = "{method}" needs calibration batches of one shape: ONNX Runtime stacks '
                f"them to count their values, and input {name!r} comes in {shown}. Give batches "
                'of one size, or use method = "minmax"'
            )


def _quant_type(name: str | None) -> Any:
    from onnxruntime.quantization import QuantType

    return {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}[name or ""]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what the tools log, print and warn out of the report."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)  # the quantizers log to the root logger
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
