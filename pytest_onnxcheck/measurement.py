"""Measurements: raw numbers and facts, no opinion.

`engine` makes them, `judge` weighs them, `report` shows them and writes them into the record.
They hold nothing heavier than Python's own types, so that every layer may import them and
`dataclasses.asdict` gives JSON.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CaseMeasurement",
    "Element",
    "EquivalenceMeasurement",
    "ExportMeasurement",
    "FileCheck",
    "LatencyMeasurement",
    "OutputMeasurement",
    "QuantizationMeasurement",
    "StructureMeasurement",
    "TensorSpec",
    "Timing",
]


@dataclass(frozen=True)
class FileCheck:
    """What `onnx.checker` and shape inference said of a file re-loaded from disk.

    Attributes:
        path: The file.
        sha256: Hash of the `.onnx` file and its external data.
        size_bytes: Bytes on disk, external data included.
        checker_error: What the full check said; None when it was content.
        inference_error: What strict shape inference said; None when it was content.
    """

    path: str
    sha256: str
    size_bytes: int
    checker_error: str | None
    inference_error: str | None


@dataclass(frozen=True)
class ExportMeasurement:
    """The exported file.

    Attributes:
        file: The file as read back.
        exporter: `dynamo`, `torchscript`, or `file` for one that was given.
        opset: The opset asked for.
        seconds: What building it took, also when it came from the cache.
        cached: Whether an earlier run built it.
        checkpoint_sha256: Hash of the checkpoint its weights come from.
        notes: What should be told about the reference.
    """

    file: FileCheck
    exporter: str
    opset: int | None
    seconds: float
    cached: bool
    checkpoint_sha256: str | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: dims are sizes, symbols, or None where the file says nothing."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class StructureMeasurement:
    """What the graph is made of.

    Attributes:
        inputs: The artefact's inputs in order.
        outputs: The artefact's outputs in order.
        expected_inputs: The same as the manifest declares them.
        expected_outputs: The same as the manifest declares them.
        opset: Version of the default operator set.
        expected_opset: Version the variant asks for, if any.
        nodes: Number of nodes, subgraphs included.
        operators: Operator type -> number of nodes.
        training: Nodes in training mode, as `Operator (node name)`.
        random: Nodes that draw random numbers.
        unused_inputs: Inputs that no node or output reads.
        unreached_outputs: Outputs that depend on no input.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    expected_inputs: tuple[TensorSpec, ...]
    expected_outputs: tuple[TensorSpec, ...]
    opset: int
    expected_opset: int | None
    nodes: int
    operators: dict[str, int]
    training: tuple[str, ...]
    random: tuple[str, ...]
    unused_inputs: tuple[str, ...]
    unreached_outputs: tuple[str, ...]


@dataclass(frozen=True)
class QuantizationMeasurement:
    """What became of the float artefact.

    Attributes:
        file: The quantized file.
        precision: The precision asked for.
        float_bytes: Size of the fp32 artefact; None when there is none to compare with.
        converted: Number of tensors (fp16) or nodes (int8) that carry the precision.
        converted_kinds: The same by kind, e.g. `{"QLinearConv": 3}` or `{"float16 tensors": 62}`.
        remaining: Nodes that could carry the precision and do not, by operator.
        calibration: Where static quantization took its ranges from; None otherwise.
        seconds: What building it took.
    """

    file: FileCheck
    precision: str
    float_bytes: int | None
    converted: int
    converted_kinds: dict[str, int]
    remaining: dict[str, int]
    calibration: str | None
    seconds: float

    @property
    def size_ratio(self) -> float | None:
        """Bytes on disk as a share of the fp32 artefact's."""
        return None if self.float_bytes is None else self.file.size_bytes / self.float_bytes


@dataclass(frozen=True)
class Element:
    """One element of an output on both sides."""

    index: tuple[int, ...]
    expected: float | int
    actual: float | int


@dataclass(frozen=True)
class OutputMeasurement:
    """One output of one case, PyTorch (expected) against the artefact (actual).

    The metrics are over the elements finite on both sides; they are None when shapes differ.

    Attributes:
        name: The output's name in the manifest.
        expected_dtype: numpy name of PyTorch's dtype.
        actual_dtype: numpy name of the artefact's dtype.
        expected_shape: PyTorch's shape.
        actual_shape: The artefact's shape.
        elements: Number of elements of PyTorch's output.
        max_abs: max |a - e|.
        mean_abs: mean |a - e|.
        mse: mean (a - e)^2.
        max_rel: max |a - e| / |e|, over elements with e != 0.
        rel_rms: ||a - e|| / ||e||; SQNR in dB is -20 log10 of it.
        cosine: Cosine similarity of the flattened outputs; 1 when both are all zero.
        scale: max |e|.
        nonfinite: Elements where NaN or infinity stands on one side only, or with another sign.
        expected_nan: Elements of PyTorch's own output that are NaN.
        outside_allclose: Share of elements with |a - e| > atol + rtol |e|; None without rtol.
        outside_range: Share of the artefact's elements outside the declared range.
        expected_outside_range: Share of PyTorch's elements outside the declared range.
        worst: The elements that differ most, the worst first.
    """

    name: str
    expected_dtype: str
    actual_dtype: str
    expected_shape: tuple[int, ...]
    actual_shape: tuple[int, ...]
    elements: int
    max_abs: float | None = None
    mean_abs: float | None = None
    mse: float | None = None
    max_rel: float | None = None
    rel_rms: float | None = None
    cosine: float | None = None
    scale: float = 0.0
    nonfinite: int = 0
    expected_nan: int = 0
    outside_allclose: float | None = None
    outside_range: float = 0.0
    expected_outside_range: float = 0.0
    worst: tuple[Element, ...] = ()


@dataclass(frozen=True)
class CaseMeasurement:
    """One case: its outputs, or the error that ended it."""

    case: str
    outputs: tuple[OutputMeasurement, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class EquivalenceMeasurement:
    """Every case of one artefact on one target."""

    target: str
    provider: str
    cases: tuple[CaseMeasurement, ...]

    def worst(self, metric: str = "max_abs") -> float | None:
        """The largest value of a metric over all cases and outputs."""
        values = [
            value
            for case in self.cases
            for output in case.outputs
            if (value := getattr(output, metric)) is not None
        ]
        return max(values, default=None)


@dataclass(frozen=True)
class Timing:
    """Seconds of one side, one sample per call."""

    backend: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the samples in seconds."""
        ordered = sorted(self.samples)
        middle = len(ordered) // 2
        if len(ordered) % 2:
            return ordered[middle]
        return (ordered[middle - 1] + ordered[middle]) / 2


@dataclass(frozen=True)
class LatencyMeasurement:
    """PyTorch against ONNX Runtime on one target and one set of dims, interleaved.

    Attributes:
        target: The target.
        provider: The provider that ran.
        dims: Values of the symbolic dims.
        threads: Threads on each side.
        boundary: What is inside the timed call, e.g. `host to host`.
        torch: PyTorch's times.
        onnxruntime: ONNX Runtime's times, in the same order: the n-th of each are one pair.
        speedup: Median over the pairs of PyTorch's time / ONNX Runtime's time.
        load_seconds: What opening the session took.
    """

    target: str
    provider: str
    dims: dict[str, int]
    threads: int
    boundary: str
    torch: Timing
    onnxruntime: Timing
    speedup: float
    load_seconds: float
