"""Measurements: raw numbers and facts, no opinion.

`engine` makes them, `judge` weighs them, `report` shows them and writes them into the record.
They hold nothing heavier than Python's own types, so that every layer may import them and
`dataclasses.asdict` gives JSON.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "AccuracyMeasurement",
    "Before",
    "CalibrationMeasurement",
    "CaseMeasurement",
    "CoverageMeasurement",
    "Diagnosis",
    "Divergence",
    "Element",
    "EquivalenceMeasurement",
    "Exclusion",
    "ExportMeasurement",
    "FallenNode",
    "FileCheck",
    "FloorMeasurement",
    "LatencyMeasurement",
    "LayerLoss",
    "MutantOutcome",
    "MutationMeasurement",
    "OutputMeasurement",
    "PortabilityMeasurement",
    "QuantizationMeasurement",
    "Ratio",
    "RecipeTrial",
    "RecommendMeasurement",
    "SaturatedLayer",
    "SaturationMeasurement",
    "SensitivityMeasurement",
    "SpeedPoint",
    "Step",
    "StructureMeasurement",
    "TargetMeasurement",
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
        unsorted: Whether the nodes are out of topological order, and fine once sorted.
    """

    path: str
    sha256: str
    size_bytes: int
    checker_error: str | None
    inference_error: str | None
    unsorted: bool = False


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
        ignored_inputs: Those of them that PyTorch's outputs do not depend on either.
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
    ignored_inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class CalibrationMeasurement:
    """The data that static quantization took its ranges from.

    Attributes:
        origin: Where it came from, for a person.
        examples: Rows along the batch of the inputs; runs where there is none. Of draws of a file
            only those that differ.
        sha256: Hash of the arrays.
        random: Whether it was drawn at random, for lack of real data.
        constant: Inputs that are one value everywhere in it, without those that are declared to
            be, booleans, and integers beside others that vary.
        varies: Whether any other input, declared constants and booleans apart, varies in it.
    """

    origin: str
    examples: int
    sha256: str
    random: bool = False
    constant: dict[str, float] = field(default_factory=dict)
    varies: bool = True


@dataclass(frozen=True)
class CoverageMeasurement:
    """How much of a model carries a precision.

    Attributes:
        weights: Share of the weights' elements; None when there are none.
        compute: Share of the multiply-accumulates, counted from inferred shapes; None when
            nothing could be counted.
        uncounted: Nodes whose multiply-accumulates could not be counted.
        floating: The nodes that compute in float32 all the same, the most expensive first, with
            their share of the multiply-accumulates.
    """

    weights: float | None
    compute: float | None
    uncounted: int = 0
    floating: tuple[tuple[str, float], ...] = ()


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
        calibration: The data static quantization took its ranges from; None otherwise.
        seconds: What building it took.
        options: The options it was made with, defaults included; empty for a given file.
        coverage: How much of the model carries the precision.
        identical: Whether the file is the fp32 artefact, byte for byte.
        clipped: Weights beyond what the precision can hold, by name.
        vanished: Weights below what the precision can hold, by name.
        checkpoint_bytes: Size of the checkpoint; None without one.
    """

    file: FileCheck
    precision: str
    float_bytes: int | None
    converted: int
    converted_kinds: dict[str, int]
    remaining: dict[str, int]
    calibration: CalibrationMeasurement | None
    seconds: float
    options: dict[str, Any] = field(default_factory=dict)
    coverage: CoverageMeasurement | None = None
    identical: bool = False
    clipped: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    checkpoint_bytes: int | None = None

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
class FloorMeasurement:
    """The error of one floating output, against float64 where the reference runs in it.

    Attributes:
        source: What the floor was measured from.
        ratio: The error in noise floors: of the worst element or of the root mean square,
            whichever is more.
        error_worst: max |artefact - float64|.
        error_rms: Root mean square of the same.
        floor_worst: How far rounding alone moves the worst element.
        floor_rms: How far it moves the root mean square.
        torch_worst: max |PyTorch - float64|: PyTorch's own error.
        outside: Share of the elements with an error above the allowed number of floors.
        unstable: Elements that rounding alone makes finite or not; they are not compared.
        nonfinite: Further elements that are NaN or infinite on one side only.
    """

    source: str
    ratio: float
    error_worst: float
    error_rms: float
    floor_worst: float
    floor_rms: float
    torch_worst: float
    outside: float
    unstable: int
    nonfinite: int


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
        differing: Elements that are not equal.
        floor: The error in noise floors; None for exact dtypes, or where it was not asked for.
        tied: Elements of an exact output that differ, and that rounding alone changes as well.
        margin: By how many roundings everything was moved to see that.
        swapped_with: Another output of the model, whose values these are.
        top1: Share of the rows along the last axis whose largest element is the same; None for
            outputs without such rows.
        undefined: Whether PyTorch gives NaN or infinity for finite inputs of a probe, of a kind
            that it does not give in the first case.
        given_nan: Whether NaN is in the case's inputs.
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
    differing: int = 0
    floor: FloorMeasurement | None = None
    tied: int = 0
    margin: float = 0.0
    swapped_with: str | None = None
    top1: float | None = None
    undefined: bool = False
    given_nan: bool = False

    @property
    def sqnr_db(self) -> float | None:
        """Signal-to-quantization-noise ratio in dB, -20 log10(rel_rms)."""
        if self.rel_rms is None:
            return None
        return math.inf if self.rel_rms == 0 else -20 * math.log10(self.rel_rms)


@dataclass(frozen=True)
class CaseMeasurement:
    """One case: its outputs, or the error that ended it.

    Attributes:
        case: Its name.
        outputs: What its outputs measure.
        error: Why there are none.
        lenient: Why a difference is only told: the model is not made for these inputs.
        probe: Whether the plugin thought of the case by itself.
        overflowed: float16 values that are infinite where they are stored as such.
        underflowed: float16 values that are mostly zero, and are not in float32.
        cpu: The kind of CPU it was computed for (`terms.Cpu`); empty where this machine ran it.
    """

    case: str
    outputs: tuple[OutputMeasurement, ...] = ()
    error: str | None = None
    lenient: str | None = None
    probe: bool = False
    overflowed: tuple[str, ...] = ()
    underflowed: tuple[str, ...] = ()
    cpu: str = ""


@dataclass(frozen=True)
class SaturatedLayer:
    """A node whose 8-bit weights can saturate on x86 without VNNI.

    Attributes:
        node: Its name, in the graph as ONNX Runtime rewrites it.
        operator: Its type.
        saturable: Share of its pairs of weights that saturate for the largest activations; None
            where the weights are computed.
        saturated: Share of the pairs of products that did, over the cases.
    """

    node: str
    operator: str
    saturable: float | None
    saturated: float = 0.0


@dataclass(frozen=True)
class SaturationMeasurement:
    """What becomes of an 8-bit artefact on x86 without VNNI, whichever machine measured it.

    Attributes:
        layers: The nodes that can saturate, those that did most first; empty where none can.
        included: Whether the manifest's `cpus` hold such CPUs.
        prevented: Whether the target's session options keep ONNX Runtime from saturating.
        here: Whether this machine's own CPU is one: its runs are what they give.
        problem: Why it could not be computed; None when it could, or was not needed.
        unknown: Nodes that can saturate and are not computed; empty where all are.
    """

    layers: tuple[SaturatedLayer, ...] = ()
    included: bool = True
    prevented: bool = False
    here: bool = False
    problem: str | None = None
    unknown: str = ""


@dataclass(frozen=True)
class PortabilityMeasurement:
    """What weights of 7 bits cost, that are taken for the sake of x86 without VNNI.

    Attributes:
        sqnr_db: Worst signal-to-quantization-noise ratio of the artefact, in dB, over the declared
            cases and floating outputs.
        eight_bits_db: The same of one made with 8 bits, as CPUs compute it that do not saturate.
    """

    sqnr_db: float
    eight_bits_db: float

    @property
    def cost_db(self) -> float:
        """What they cost in dB; negative where they are better."""
        return self.eight_bits_db - self.sqnr_db


@dataclass(frozen=True)
class Step:
    """One way to compute the failing case, between PyTorch and the artefact as it ships.

    Attributes:
        stage: What this step adds: `capture`, `conversion`, `provider`, `quantization` or
            `runtime optimisation`.
        name: What ran, e.g. `exported program`.
        ratio: Its error in units of `unit`; None if not run.
        unit: `floors`, or `of the bound` where a metric is set against its bound.
        agrees: Whether it agrees with PyTorch; None if it was not run.
        note: Why it was not run, or how it failed.
    """

    stage: str
    name: str
    ratio: float | None = None
    agrees: bool | None = None
    note: str = ""
    unit: str = "floors"


@dataclass(frozen=True)
class Divergence:
    """The first place inside the artefact whose value is not PyTorch's.

    Attributes:
        node: Name of the ONNX node.
        operator: Its operator type.
        value: The value it computes.
        module: Path of the PyTorch module, e.g. `layer1.0.conv1`.
        torch_operator: PyTorch's operator there, e.g. `aten.convolution`.
        source: `file:line` in the user's code that called it.
        ratio: Its error in noise floors; None where no value of PyTorch's can be set beside it.
        note: How sure it is, or what else to know.
    """

    node: str
    operator: str
    value: str
    module: str = ""
    torch_operator: str = ""
    source: str = ""
    ratio: float | None = None
    note: str = ""


@dataclass(frozen=True)
class LayerLoss:
    """How much of a layer's signal a quantized artefact keeps.

    Attributes:
        value: The value's name.
        operator: The operator that computes it.
        sqnr_db: 20 log10(||float|| / ||float - quantized||).
    """

    value: str
    operator: str
    sqnr_db: float


@dataclass(frozen=True)
class Exclusion:
    """A static int8 artefact made anew with some nodes left in float.

    Attributes:
        nodes: The nodes.
        rel_rms: Its worst `rel_rms` over the cases' outputs.
        size_ratio: Its bytes as a share of the fp32 artefact's.
        problem: The tolerance or budget it does not meet, or that it is no smaller than fp32; None
            when it will do.
    """

    nodes: tuple[str, ...]
    rel_rms: float | None
    size_ratio: float
    problem: str | None


@dataclass(frozen=True)
class SensitivityMeasurement:
    """Which layers lose most in a static int8 artefact.

    Attributes:
        layers: The nodes' own loss: what quantizing their inputs and weights alone does to them;
            the worst first.
        tried: Artefacts made with the first layers left in float, in the order they were tried.
        toml: What to put into the manifest for the last of them; None when it will not do.
    """

    layers: tuple[LayerLoss, ...]
    tried: tuple[Exclusion, ...] = ()
    toml: str | None = None


@dataclass(frozen=True)
class Diagnosis:
    """What was found out about a failing case.

    Attributes:
        case: The case.
        stage: The guilty stage; None when it could not be told.
        steps: What was run to find it.
        divergence: Where the values part; None when it could not be told.
        losses: Layers of a quantized artefact, the worst first.
        sensitivity: What leaving layers of an int8-static artefact in float does for it.
        repro: Command that runs the folder which reproduces the failure.
        notes: What could not be found out, and why.
    """

    case: str
    stage: str | None = None
    steps: tuple[Step, ...] = ()
    divergence: Divergence | None = None
    losses: tuple[LayerLoss, ...] = ()
    sensitivity: SensitivityMeasurement | None = None
    repro: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EquivalenceMeasurement:
    """Every case of one artefact on one target.

    Attributes:
        target: The target.
        provider: The provider that ran.
        cases: The cases, in the order they ran.
        notes: What should be told about the reference.
        no_float64: Why the reference could not be run in float64; None when it could.
        diagnosis: What was found out about a failure.
        saturation: What becomes of 8-bit products on x86 without VNNI; None without any.
        portability: What portable weights cost; None where the manifest asks for theirs by itself.
    """

    target: str
    provider: str
    cases: tuple[CaseMeasurement, ...]
    notes: tuple[str, ...] = ()
    no_float64: str | None = None
    diagnosis: Diagnosis | None = None
    saturation: SaturationMeasurement | None = None
    portability: PortabilityMeasurement | None = None

    def worst(self, metric: str = "max_abs") -> float | None:
        """The largest value of a metric over all cases and outputs."""
        values = [
            value
            for case in self.cases
            for output in case.outputs
            if (value := getattr(output, metric)) is not None
        ]
        return max(values, default=None)

    @property
    def sqnr_db(self) -> float | None:
        """The worst signal-to-quantization-noise ratio in dB over declared cases that count."""
        values = (
            output.sqnr_db
            for case in self.cases
            for output in case.outputs
            if not case.probe and not case.lenient and "float" in output.expected_dtype
        )
        return min((value for value in values if value is not None), default=None)


@dataclass(frozen=True)
class FallenNode:
    """A node that runs on the CPU, under a target of another provider.

    Attributes:
        operator: Its type.
        name: Its name; may be empty.
        multiplies: Whether it multiplies and accumulates (Conv, MatMul, LSTM ...).
    """

    operator: str
    name: str
    multiplies: bool


@dataclass(frozen=True)
class TargetMeasurement:
    """Who runs an artefact's nodes under a target.

    Attributes:
        target: The target.
        provider: Its execution provider.
        before: Providers of the session when it was opened, the preferred first.
        after: The same, after a run.
        nodes: Provider -> number of nodes assigned to it.
        multiplying: How many nodes of the file multiply and accumulate.
        fallen: The nodes on the CPU.
        compute: Their share of the multiply-accumulates; None where it is unknown.
        said: What ONNX Runtime printed while it opened the session.
    """

    target: str
    provider: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    nodes: dict[str, int]
    multiplying: int
    fallen: tuple[FallenNode, ...]
    compute: float | None
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class MutantOutcome:
    """What became of one mutant.

    Attributes:
        operator: Kind of fault.
        description: What was changed.
        result: `killed`, `survived`, or `equivalent`: no bit of an output changed on any case.
        by: The check that noticed it, and what it said.
        ratio: Its largest error in noise floors, over the cases that were run.
    """

    operator: str
    description: str
    result: str
    by: str = ""
    ratio: float | None = None


@dataclass(frozen=True)
class MutationMeasurement:
    """Mutants of one artefact on one target.

    Attributes:
        target: The target.
        provider: The provider that ran.
        mutants: The mutants in the order they were made.
        unsound: Why there are none: the artefact itself fails.
    """

    target: str
    provider: str
    mutants: tuple[MutantOutcome, ...]
    unsound: str | None = None

    def count(self, result: str) -> int:
        """How many were `killed`, `survived`, or `equivalent`."""
        return sum(mutant.result == result for mutant in self.mutants)

    @property
    def score(self) -> float | None:
        """Killed mutants as a share of those that change an output; None without any."""
        killed, survived = self.count("killed"), self.count("survived")
        return killed / (killed + survived) if killed + survived else None


@dataclass(frozen=True)
class Timing:
    """Wall times of one side in seconds, one sample per call, summarised.

    Attributes:
        backend: Whose, for a person.
        count: How many samples.
        median: Their median (p50).
        p90: The time that 90% of the calls need at most.
        p95: Likewise.
        p99: Likewise.
        iqr: Interquartile range.
        median_interval: 99% interval of the median.
        p95_interval: 99% interval of p95. Of fewer than 127 samples its upper end is the greatest,
            which bounds p95 with 95%; of fewer than 59 it is infinite.
        interrupted: Share of the calls that had to wait for the processor.
    """

    backend: str
    count: int
    median: float
    p90: float
    p95: float
    p99: float
    iqr: float
    median_interval: tuple[float, float]
    p95_interval: tuple[float, float]
    interrupted: float = 0.0


@dataclass(frozen=True)
class Ratio:
    """How many times as long another call takes as the artefact: the median over rounds.

    Attributes:
        value: The median.
        low: Lower end of its 99% interval.
        high: Upper end of it.
        clock: `processor` (the calling thread's) or `wall`.
        wall: The median on the wall clock, over the rounds that were not interrupted, or over all
            where too few were not.
        rounds: How many rounds.
        interrupted: Share of the rounds in which a call had to wait for the processor.
        sure: Whether it can be a failure: not on the wall clock where nearly all were interrupted.
    """

    value: float
    low: float
    high: float
    clock: str
    wall: float
    rounds: int
    interrupted: float
    sure: bool = True


@dataclass(frozen=True)
class LatencyMeasurement:
    """PyTorch against ONNX Runtime on one target and one set of dims, interleaved.

    Attributes:
        target: The target.
        provider: The provider that ran.
        dims: Values of the symbolic dims.
        threads: Threads on each side.
        boundary: What is inside the timed call: `host to host`, `device to device` or `device to
            device, CUDA graph`.
        torch: PyTorch's times.
        onnxruntime: The artefact's times, in the same rounds.
        speedup: How many times as long PyTorch takes: `ratios["torch"].value`.
        load_seconds: What opening the session took; the median where it was opened more than once.
        ratios: Other side -> how many times as long it takes as the artefact: `torch`, `fp32` (the
            fp32 artefact; absent for fp32 itself), `kernel` (a fixed piece of work in numpy,
            the unit of times that are compared over machines and days), `baseline` (an earlier
            artefact, where one is named).
        fp32: Times of the fp32 artefact; None for fp32 itself, and where there is no such file.
        speedup_over_fp32: `ratios["fp32"].value`, likewise.
        kernel: Times of the fixed kernel.
        baseline: Times of the earlier artefact.
        sha256: Hash of the artefact.
        kernel_name: Which kernel: times in units of another one do not compare.
        waiting: How the threads of PyTorch wait for work: `OMP_WAIT_POLICY`; None when unset.
        seconds: How long the sides were timed.
        load_interval: The fastest and the slowest opening.
        first_seconds: The first run, which allocates what later ones reuse.
        items: Size of the first symbolic dim, e.g. the batch; 1 without one.
        throughput: Items a second, one call after the other: `items` / median.
        memory_bytes: What a session and one run add to the peak of the host's memory; None when it
            was not, or could not be, measured.
        device_memory_bytes: The same of a GPU's memory.
        assignment: Who ran which node of the timed session; None for targets without a fall back.
        device: Which accelerator: the GPU's name, or what the provider's options ask for; empty for
            the CPU's provider.
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
    ratios: dict[str, Ratio] = field(default_factory=dict)
    fp32: Timing | None = None
    speedup_over_fp32: float | None = None
    kernel: Timing | None = None
    baseline: Timing | None = None
    sha256: str = ""
    kernel_name: str = ""
    waiting: str | None = None
    seconds: float = 0.0
    load_interval: tuple[float, float] | None = None
    first_seconds: float | None = None
    items: int = 1
    throughput: float | None = None
    memory_bytes: int | None = None
    device_memory_bytes: int | None = None
    assignment: TargetMeasurement | None = None
    device: str = ""


@dataclass(frozen=True)
class SpeedPoint:
    """One latency check of an earlier run, as the history keeps it.

    Attributes:
        created: When, in UTC, as ISO 8601.
        manifest: The manifest, relative to pytest's rootdir.
        target: The target.
        normalised: The artefact's time in units of the fixed kernel's.
        interval: 99% interval of it, within that run.
        speedup: How many times as long PyTorch took.
        speedup_interval: 99% interval of it.
        median_seconds: Median wall time of each side.
        sha256: Hash of the artefact.
        kernel: Which kernel; points of different ones do not compare.
        threads: Threads on each side.
        noisy: Whether most rounds were interrupted by other processes.
        machine: What it ran on, see `machine.fingerprint`.
        limit: The `max_regression` it was measured under, for the plot.
        clock: The clock of `normalised`, see `Ratio`; None, like what follows, in older files.
        boundary: What was inside the timed call.
        dims: Values of the symbolic dims.
        device: Which accelerator, see `LatencyMeasurement`.
    """

    created: str
    manifest: str
    target: str
    normalised: float
    interval: tuple[float, float]
    speedup: float
    speedup_interval: tuple[float, float]
    median_seconds: dict[str, float]
    sha256: str
    kernel: str
    threads: int
    noisy: bool
    machine: dict[str, Any]
    limit: float | None = None
    clock: str | None = None
    boundary: str | None = None
    dims: dict[str, int] | None = None
    device: str | None = None

    @property
    def cpu(self) -> str:
        """The processor's name."""
        return str(self.machine["cpu"])


@dataclass(frozen=True)
class Before:
    """What the history knows of a latency check.

    Attributes:
        folder: Where the history is.
        machine: What this run is on.
        accepted: The accepted baseline, at most one point a processor.
        runs: The check's points in earlier runs, the oldest first.
        accepting: Whether this run is to become the baseline.
        problem: Why the baseline cannot be read; None when it can.
    """

    folder: str
    machine: dict[str, Any]
    accepted: tuple[SpeedPoint, ...] = ()
    runs: tuple[SpeedPoint, ...] = ()
    accepting: bool = False
    problem: str | None = None


@dataclass(frozen=True)
class AccuracyMeasurement:
    """A task metric of PyTorch and of one artefact on the same samples.

    Attributes:
        target: The target.
        provider: The provider that ran.
        metric: The metric's name.
        data: Where the samples came from, for a person.
        sha256: Hash of the samples and labels.
        samples: How many samples.
        torch: PyTorch's metric.
        onnxruntime: The artefact's metric.
        drop: How much worse the artefact is: their difference, with the sign that makes a loss
            positive.
        low: Lower end of the paired bootstrap interval of the drop.
        high: Upper end of it.
        confidence: Confidence of the interval.
        changed: Samples whose prediction differs; None where there are no predicted classes.
        baseline: What the most frequent class (mse: the mean label) would score when it is all
            that is ever answered; None for a metric of the user's own.
        undefined: Draws of the bootstrap that were left out, as the metric of the user's own is
            undefined on them.
    """

    target: str
    provider: str
    metric: str
    data: str
    sha256: str
    samples: int
    torch: float
    onnxruntime: float
    drop: float
    low: float
    high: float
    confidence: float
    changed: int | None = None
    baseline: float | None = None
    undefined: int = 0


@dataclass(frozen=True)
class RecipeTrial:
    """One recipe that was tried.

    Attributes:
        precision: Its precision.
        options: Options that differ from the precision's defaults.
        size_bytes: Bytes on disk; None when it could not be built.
        size_ratio: The same as a share of the fp32 artefact's.
        speedup: PyTorch's time / ONNX Runtime's; None when it was not measured.
        speedup_over_fp32: The fp32 artefact's time / this one's, likewise.
        rel_rms: Worst `rel_rms` over the declared cases' outputs.
        coverage: Share of the multiply-accumulates that carry the precision.
        problem: The first tolerance or budget it does not meet; None when it meets all.
        seconds: What trying it took.
    """

    precision: str
    options: dict[str, Any]
    size_bytes: int | None = None
    size_ratio: float | None = None
    speedup: float | None = None
    speedup_over_fp32: float | None = None
    rel_rms: float | None = None
    coverage: float | None = None
    problem: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class RecommendMeasurement:
    """Recipes tried for one model, exporter and opset on one target.

    Attributes:
        target: The target.
        seconds: The time that was allowed.
        tried: The recipes in the order they were tried.
        untried: Recipes for which no time was left.
        best: Which of those tried is best; None when none meets its tolerance and budget.
        pays: Whether that one is preferred to fp32.
        toml: What to put into the manifest for it; None unless it pays.
    """

    target: str
    seconds: float
    tried: tuple[RecipeTrial, ...]
    untried: int = 0
    best: int | None = None
    pays: bool = True
    toml: str | None = None
