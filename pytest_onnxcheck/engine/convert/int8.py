"""The fp32 artefact in int8, dynamic and static, by ONNX Runtime's quantizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pytest_onnxcheck.engine.convert.prepare import (
    AS_PREPARED,
    OptionError,
    check_operators,
    excluded,
    graph_of,
    prepared,
    quantizable,
)
from pytest_onnxcheck.engine.inputs.calibration import CalibrationData
from pytest_onnxcheck.manifest.sections import Quantization

__all__ = ["DYNAMIC_OPERATORS", "to_int8_dynamic", "to_int8_static"]

#: What int8-dynamic is applied to when no operators are named. Convolutions are left out: as
#: ConvInteger they run 1.5 to 5 times slower than in fp32 (measured on a ResNet-18).
DYNAMIC_OPERATORS = ("MatMul", "Attention", "LSTM", "Gather", "EmbedLayerNormalization")

#: Bins of the histograms for the entropy method, as NVIDIA describes it (GTC 2017, S7310); the
#: tool's own number for percentiles. It takes half a second a value.
_BINS = 2048


def to_int8_dynamic(source: Path, path: Path, options: Quantization) -> None:
    """Writes the artefact `source` with int8 weights to `path`; ranges are found at run time.

    Raises:
        OptionError: An option does not fit the graph.
    """
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.registry import IntegerOpsRegistry

    # the tool does away with Gemm as well, after it has read the names of nodes
    with prepared(source, without_gemm=True) as file:
        graph = graph_of(file)
        check_operators(options, graph, IntegerOpsRegistry)
        operators = options.operators or quantizable(DYNAMIC_OPERATORS, graph)
        quantize_dynamic(
            file,
            path,
            op_types_to_quantize=list(operators),
            per_channel=options.per_channel,
            reduce_range=options.reduce_range,
            weight_type=_quant_type(options.weight_type),
            nodes_to_exclude=excluded(options, graph, AS_PREPARED.format(source)),
        )


def to_int8_static(
    source: Path, path: Path, options: Quantization, *, calibration: CalibrationData
) -> None:
    """Writes the artefact `source` in int8 to `path`, with ranges from the calibration data.

    Raises:
        OptionError: An option does not fit the graph or the data.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, quantize_static
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

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
