"""The fp32 artefact in int8, dynamic and static, by ONNX Runtime's quantizers."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.writing import is_large
from pytest_onnxcheck.engine.convert.prepare import (
    AS_PREPARED,
    OptionError,
    check_operators,
    excluded,
    graph_of,
    prepared,
    quantizable,
)
from pytest_onnxcheck.engine.graph.walk import nodes_of
from pytest_onnxcheck.engine.inputs.calibration import CalibrationData
from pytest_onnxcheck.engine.runtime.libraries import cpu_opening
from pytest_onnxcheck.engine.runtime.worker import open_handle
from pytest_onnxcheck.manifest.sections import Quantization

if TYPE_CHECKING:
    import onnx

__all__ = ["DYNAMIC_OPERATORS", "to_int8_dynamic", "to_int8_static"]

#: What int8-dynamic is applied to when no operators are named. Convolutions are left out: as
#: ConvInteger they run 1.5 to 5 times slower than in fp32 (measured on a ResNet-18).
DYNAMIC_OPERATORS = ("MatMul", "Attention", "LSTM", "Gather", "EmbedLayerNormalization")

#: Bins of the histograms for the entropy method, as NVIDIA describes it (GTC 2017, S7310); the
#: tool's own number for percentiles. It takes half a second a value.
_BINS = 2048

#: From here on a value has no histogram: the width of its range is beyond float32. Such are masks,
#: and the range that they keep is that by minimum and maximum.
_TOO_LARGE = 1e38


def to_int8_dynamic(
    source: Path, path: Path, options: Quantization, libraries: tuple[str, ...] = ()
) -> None:
    """Writes the artefact `source` with int8 weights to `path`; ranges are found at run time.

    Args:
        source: The fp32 artefact.
        path: The file to write.
        options: The manifest's.
        libraries: Its custom operators; see `Target`.

    Raises:
        OptionError: An option does not fit the graph.
    """
    import onnx
    from onnxruntime.quantization import quantize_dynamic
    from onnxruntime.quantization.registry import IntegerOpsRegistry

    # the tool does away with Gemm as well, after it has read the names of nodes
    with prepared(source, libraries, without_gemm=True) as file:
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
            use_external_data_format=is_large(onnx.load(file, load_external_data=False)),
        )


def to_int8_static(
    source: Path,
    path: Path,
    options: Quantization,
    libraries: tuple[str, ...] = (),
    *,
    calibration: CalibrationData,
) -> None:
    """Writes the artefact `source` in int8 to `path`, with ranges from the calibration data.

    Args:
        source: The fp32 artefact.
        path: The file to write.
        options: The manifest's.
        libraries: Its custom operators; see `Target`.
        calibration: The data.

    Raises:
        OptionError: An option does not fit the graph or the data.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, quantize_static
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    method = CalibrationMethod.MinMax
    extra: dict[str, Any] = {"ActivationSymmetric": options.symmetric}
    if options.method == "percentile":
        _check_one_shape(calibration)
        method = CalibrationMethod.Percentile
        extra["CalibPercentile"] = options.percentile
    with prepared(source, libraries) as file, _sessions_with(libraries):
        graph = graph_of(file)
        supported = {**QDQRegistry, **QLinearOpsRegistry}
        check_operators(options, graph, supported)
        in_float = excluded(options, graph, AS_PREPARED.format(source))
        if options.method == "entropy":
            operators = list(options.operators or supported)
            extra["TensorQuantOverrides"] = _entropy_ranges(file, calibration, operators, in_float)
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
            nodes_to_exclude=in_float,
            use_external_data_format=is_large(onnx.load(file, load_external_data=False)),
            extra_options=extra,
        )


@contextlib.contextmanager
def _sessions_with(libraries: tuple[str, ...]) -> Iterator[None]:
    """Opens calibrators' sessions as all others are, with custom operators and a worker's threads.

    They take no session options (onnxruntime 1.32).
    """
    from onnxruntime.quantization.calibrate import CalibraterBase

    opening = cpu_opening(libraries)
    before = CalibraterBase.create_inference_session

    def create(calibrator: Any) -> None:
        path = str(calibrator.augmented_model_path)
        calibrator.infer_session = open_handle(path, **opening, optimise=False)

    CalibraterBase.create_inference_session = create
    try:
        yield
    finally:
        CalibraterBase.create_inference_session = before


def _entropy_ranges(
    file: Path, calibration: CalibrationData, operators: list[str], in_float: list[str]
) -> dict[str, list[dict[str, Any]]]:
    """The ranges of the values by entropy, as overrides of those by minimum and maximum.

    `quantize_static` cannot be told the number of bins, and with its own, which is as many as
    quantized ones, there is one range to choose from: all of it (onnxruntime 1.31). And it holds
    every value of every batch until it counts them. Here each batch is counted when it was run.

    Args:
        file: The prepared fp32 artefact.
        calibration: The data.
        operators: What is quantized.
        in_float: Names of the nodes that stay in float.

    Raises:
        OptionError: A value is not finite.
    """
    import onnx
    from onnxruntime.quantization import CalibrationMethod, create_calibrator
    from onnxruntime.quantization.calibrate import HistogramCollector

    calibrator = create_calibrator(
        file,
        operators,
        augmented_model_path=str(file.with_name("augmented.onnx")),
        calibrate_method=CalibrationMethod.Entropy,
        use_external_data_format=is_large(onnx.load(file, load_external_data=False)),
        extra_options={"num_bins": _BINS},
    )
    wanted = _touching(graph_of(file), calibrator.tensors_to_calibrate, operators, in_float)
    largest = _largest(calibrator.infer_session, calibration, wanted)
    calibrator.collector = HistogramCollector(
        method="entropy",
        symmetric=False,
        num_bins=_BINS,
        num_quantized_bins=calibrator.num_quantized_bins,
        percentile=None,
        scenario="same",
    )
    # the largest first: a histogram that grows keeps the width of its bins, not their number
    calibrator.collector.collect({name: [array] for name, (_, array) in largest.items()})
    for index in range(len(calibration.batches)):
        names = [name for name, (counted, _) in largest.items() if counted != index]
        values = _values(calibrator.infer_session, calibration, index, names)
        calibrator.collector.collect({name: [array] for name, array in values.items()})
    if not largest:
        return {}
    ranges = {name: data.range_value for name, data in calibrator.compute_data().items()}
    return {name: [{"rmin": low, "rmax": high}] for name, (low, high) in ranges.items()}


def _touching(
    graph: onnx.GraphProto, values: Iterable[str], operators: list[str], in_float: list[str]
) -> dict[str, list[str]]:
    """Value -> names of the nodes that quantize it, for the values that are quantized."""
    found: dict[str, list[str]] = {}
    held = set(values)
    for node in nodes_of(graph):
        if node.op_type in operators and node.name not in in_float:
            for name in (*node.input, *node.output):
                if name in held:
                    found.setdefault(name, []).append(node.name)
    return found


def _values(
    session: Any, calibration: CalibrationData, index: int, names: Collection[str]
) -> dict[str, Any]:
    """Arrays by name that a batch gives."""
    if not names:
        return {}
    listed = list(names)
    return dict(zip(listed, session.run(listed, calibration.batches[index]), strict=True))


def _largest(
    session: Any, calibration: CalibrationData, touching: dict[str, list[str]]
) -> dict[str, tuple[int, Any]]:
    """Value -> the batch in which it is largest, and its array; none too large for a histogram.

    Raises:
        OptionError: A value is not finite.
    """
    magnitudes: dict[str, float] = {}
    largest: dict[str, tuple[int, Any]] = {}
    for index in range(len(calibration.batches)):
        for name, array in _values(session, calibration, index, touching).items():
            if not array.size:
                continue
            low, high = float(array.min()), float(array.max())
            if not math.isfinite(high - low):
                nodes = touching[name]
                listed = ", ".join(f'"{node}"' for node in nodes)
                raise OptionError(
                    f'method = "entropy": value {name!r} is not finite: it goes from {low:g} to '
                    f"{high:g} in batch {index} of the calibration data, and no range follows from "
                    "that. Leave the nodes that compute and read it in float, exclude_nodes = "
                    f"[{listed}], or mend the data if it is not meant to be"
                )
            magnitude = max(abs(low), abs(high))
            if magnitude > magnitudes.get(name, -1.0):
                magnitudes[name], largest[name] = magnitude, (index, array)
    return {name: found for name, found in largest.items() if magnitudes[name] < _TOO_LARGE}


def _reader(calibration: CalibrationData) -> Any:
    """The batches, as the tool asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = iter(calibration.batches)

        def get_next(self) -> dict[str, Any] | None:
            return next(self.batches, None)

    return Reader()


def _check_one_shape(calibration: CalibrationData) -> None:
    shapes: dict[str, set[tuple[int, ...]]] = {}
    for batch in calibration.batches:
        for name, array in batch.items():
            shapes.setdefault(name, set()).add(array.shape)
    for name, found in shapes.items():
        if len(found) > 1:
            shown = " and ".join(str(list(shape)) for shape in sorted(found)[:2])
            raise OptionError(
                'method = "percentile" needs calibration batches of one shape: ONNX Runtime stacks '
                f"them to count their values, and input {name!r} comes in {shown}. Give batches "
                'of one size, or use method = "entropy" or "minmax"'
            )


def _quant_type(name: str | None) -> Any:
    from onnxruntime.quantization import QuantType

    return {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}[name or ""]
