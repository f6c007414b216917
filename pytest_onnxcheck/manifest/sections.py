"""The sections of `models.toml`, one class each: the single source of validation and schema.

A field that is None was not written; `resolve.py` fills it by the order of precedence. The
field descriptions are the reference documentation (`onnxcheck schema`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from pytest_onnxcheck.terms import Check, Cpu, Dtype, Exporter, Fill, Metric, Precision

__all__ = [
    "BUILTIN_QUANTIZATION",
    "BUILTIN_TOLERANCE",
    "FIXED_TOLERANCE",
    "METRICS",
    "SESSION_SETTINGS",
    "Accuracy",
    "Bounds",
    "Budget",
    "Calibration",
    "CaseFile",
    "Defaults",
    "Input",
    "Latency",
    "ManifestFile",
    "Mark",
    "ModelSection",
    "Output",
    "Quantization",
    "Section",
    "TargetOptions",
    "Tolerance",
]


def _error(text: str) -> PydanticCustomError:
    # PydanticCustomError formats its template with str.format
    return PydanticCustomError("onnxcheck", "{text}", {"text": text})


class Section(BaseModel):
    """Base of every section: immutable, strict, unknown keys refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    def written(self) -> dict[str, Any]:
        """The fields that were written in the file, for merging."""
        return {name: getattr(self, name) for name in self.model_fields_set}


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    twice = sorted({value for value in values if values.count(value) > 1}, key=str)
    if twice:
        raise _error(f"{', '.join(map(repr, twice))} stands there twice")
    return values


def _range_of(value: object) -> object:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise _error(f"expected two numbers [lowest, highest], got {value!r}")
    return value


def _artefacts_of(value: object) -> object:
    return {"fp32": value} if isinstance(value, str) else value


def _numbers_by(key: str) -> Callable[[object], object]:
    """A validator that takes a bare number for a table with `key` alone."""

    def table_of(value: object) -> object:
        if isinstance(value, int | float) and not isinstance(value, bool):
            return {key: value}
        if not isinstance(value, dict):
            raise _error(f"expected a number or a table of numbers, got {value!r}")
        return value

    return table_of


_PERCENT = r"(\d+(?:\.\d+)?) ?%"


def _share_of(value: object) -> object:
    """`"10%"` and 0.1 alike; from a half on only the former, for 1 may be meant as a percent."""
    if isinstance(value, str):
        percent = re.fullmatch(_PERCENT, value)
        if percent is None:
            raise _error(f'expected a percentage ("10%") or a share (0.1), got {value!r}')
        return float(percent[1]) / 100
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0.5:
        meant = 100 * value if value < 1 else value
        raise _error(f'expected a share below 0.5, got {value:g}: did you mean "{meant:g}%"?')
    return value


Array = Strict(False)  # TOML has arrays, which are lists in Python; the sections hold tuples
Opset = Annotated[int, Field(ge=9, le=30)]
Exporters = Annotated[tuple[Exporter, ...], Array, Field(min_length=1), AfterValidator(_unique)]
Opsets = Annotated[tuple[Opset, ...], Array, Field(min_length=1), AfterValidator(_unique)]
Precisions = Annotated[tuple[Precision, ...], Array, Field(min_length=1), AfterValidator(_unique)]
# names of targets are checked in `rules`: the manifest and a hook may declare more
Cpus = Annotated[tuple[Cpu, ...], Array, Field(min_length=1), AfterValidator(_unique)]
Targets = Annotated[tuple[str, ...], Array, Field(min_length=1), AfterValidator(_unique)]
AnyTargets = Annotated[tuple[str, ...], Array, AfterValidator(_unique)]
Size = Annotated[int, Field(ge=1)]
Ratio = Annotated[float, Field(gt=0)]
Shape = Annotated[tuple[int | str, ...], Array]
Number = int | float
Range = Annotated[tuple[Number, Number], Array, BeforeValidator(_range_of)]
Strings = Annotated[tuple[str, ...], Array]
Operators = Annotated[tuple[str, ...], Array, Field(min_length=1), AfterValidator(_unique)]
Speedups = Annotated[
    dict[str, Ratio],
    BeforeValidator(_numbers_by("cpu"), json_schema_input_type=Ratio | dict[str, Ratio]),
]
Share = Annotated[float, Field(ge=0, le=1)]
Shares = Annotated[
    dict[str, Share],
    BeforeValidator(_numbers_by("*"), json_schema_input_type=Share | dict[str, Share]),
]
Drop = Annotated[float, Field(ge=0)]
Drops = Annotated[
    dict[str, Drop],
    Field(min_length=1),
    BeforeValidator(_numbers_by("*"), json_schema_input_type=Drop | dict[str, Drop]),
]
#: two runs of one artefact differ by half a percent: less than 1% cannot be gated on
Regression = Annotated[
    float,
    Field(ge=0.01, le=1),
    BeforeValidator(
        _share_of,
        json_schema_input_type=Annotated[float, Field(ge=0.01, lt=0.5)]
        | Annotated[str, Field(pattern=f"^{_PERCENT}$")],
    ),
]
ImportPath = Annotated[str, WithJsonSchema({"type": "string", "pattern": ":"})]


def _bounds_of(value: object) -> object:
    if value == "off" or isinstance(value, Bounds):
        return value
    numbers: list[Any] = list(value) if isinstance(value, list | tuple) else [value]
    finite = all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
    if len(numbers) not in (1, 2) or not finite:
        raise _error(
            f'expected a number, a pair [pass, fail] or "off", got {value!r}: '
            "below the first is a pass, beyond the second a failure, between them a warning"
        )
    return Bounds(passes=float(numbers[0]), fails=float(numbers[-1]))


class Bounds(Section):
    """The two bounds of a graded metric: a pass up to one, a failure beyond the other."""

    passes: float
    fails: float


Graded = Annotated[
    Bounds | Literal["off"] | None,
    BeforeValidator(_bounds_of),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number"},
                {
                    "type": "array",
                    "items": {"type": "number"},
                    "minItems": 1,
                    "maxItems": 2,
                },
                {"const": "off"},
            ]
        }
    ),
]

#: metric name -> whether a larger value is better
METRICS = {
    "max_abs": False,
    "mean_abs": False,
    "mse": False,
    "max_rel": False,
    "rel_rms": False,
    "cosine": True,
    "sqnr_db": True,
    "top1": True,
}


class Tolerance(Section):
    """What an artefact's outputs may differ from PyTorch's."""

    policy: Literal["noise-floor", "fixed"] | None = Field(
        None,
        description="How the outputs are judged: `noise-floor`, against what rounding alone does "
        "to them (fp32, fp16 and half only, and their default), or `fixed`, by thresholds on the "
        "metrics below (default of the others, and wherever thresholds other than `top1` and "
        "`sqnr_db` are written without a policy). Thresholds written beside `noise-floor` hold as "
        "well.",
    )
    safety: Ratio | None = Field(
        None, description="How many noise floors an error may be; default: 8."
    )
    max_abs: Graded = Field(None, description="Largest |ONNX - PyTorch| over all elements.")
    mean_abs: Graded = Field(None, description="Mean |ONNX - PyTorch|.")
    mse: Graded = Field(None, description="Mean squared difference.")
    max_rel: Graded = Field(None, description="Largest |ONNX - PyTorch| / |PyTorch|.")
    rel_rms: Graded = Field(
        None,
        description="Norm of the difference as a share of PyTorch's norm; in decibels, "
        "-20 log10 of it is the signal-to-quantization-noise ratio.",
    )
    cosine: Graded = Field(None, description="Cosine similarity; larger is better.")
    sqnr_db: Graded = Field(
        None,
        description="Signal-to-quantization-noise ratio in dB, -20 log10 of `rel_rms`; larger is "
        "better. It replaces an inherited `rel_rms`, and the other way round.",
    )
    top1: Graded = Field(
        None,
        description="Share of the rows (along the last axis) whose largest element is the same, "
        "from 0 to 1; larger is better.",
    )
    rtol: float | None = Field(
        None, ge=0, description="With `atol`: every element within atol + rtol x |PyTorch|."
    )
    atol: float | None = Field(None, ge=0, description="See `rtol`.")
    min_mutation_score: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of the injected faults (`--onnxcheck-mutants`) that must be noticed.",
    )

    @property
    def fixed(self) -> set[str]:
        """The keys that were written and mean `policy = "fixed"` where none is written.

        `top1` and `sqnr_db` do not: they are what a release is held to, whatever the policy.
        """
        others = {"policy", "safety", "min_mutation_score", "top1", "sqnr_db"}
        return self.model_fields_set - others


def _fixed(**bounds: tuple[float, float]) -> Tolerance:
    return Tolerance.model_validate({"policy": "fixed", **bounds})


#: The thresholds of `policy = "fixed"` when the manifest gives none. int8 is judged relative to
#: the outputs: the size of its rounding error follows their scale. A cosine alone would not see a
#: rescaled output.
FIXED_TOLERANCE: dict[str, Tolerance] = {
    "fp32": _fixed(max_abs=(1e-5, 1e-4), mse=(1e-10, 1e-8), cosine=(0.9999, 0.999)),
    "fp16": _fixed(max_abs=(1e-2, 1e-1), mse=(1e-5, 1e-3), cosine=(0.999, 0.99)),
    "bf16": _fixed(rel_rms=(0.05, 0.15), cosine=(0.999, 0.99)),
    "half": _fixed(max_abs=(1e-2, 1e-1), mse=(1e-5, 1e-3), cosine=(0.999, 0.99)),
    "int8-dynamic": _fixed(rel_rms=(0.15, 0.35), cosine=(0.99, 0.95)),
    "int8-static": _fixed(rel_rms=(0.15, 0.35), cosine=(0.99, 0.95)),
    "int4-weight": _fixed(rel_rms=(0.25, 0.5), cosine=(0.97, 0.9)),
}

#: What holds for the precisions whose rounding a noise floor can be measured for.
NOISE_FLOOR = Tolerance.model_validate({"policy": "noise-floor", "safety": 8.0})

#: What holds when the manifest says nothing.
BUILTIN_TOLERANCE = FIXED_TOLERANCE | {
    "fp32": NOISE_FLOOR,
    "fp16": NOISE_FLOOR,
    "half": NOISE_FLOOR,
}


class Quantization(Section):
    """How a precision is made from fp32: the options of ONNX Runtime's own tools."""

    exclude_nodes: Strings | None = Field(
        None,
        description="fp16, bf16, int8, int4-weight: nodes left in float32, names or globs over "
        "names.",
    )
    op_block_list: Strings | None = Field(
        None, description="fp16, bf16: operator types left in float32, beside the converter's own."
    )
    keep_io_types: bool | None = Field(
        None, description="fp16, bf16: inputs and outputs stay float32; default: true."
    )
    operators: Operators | None = Field(
        None,
        description="int8-dynamic, int8-static, int4-weight: the operator types to quantize. "
        "Default: all that pay; int8-dynamic leaves convolutions alone, which as ConvInteger run "
        "1.5 to 5 times slower than in fp32.",
    )
    per_channel: bool | None = Field(
        None, description="int8: one scale per output channel of a weight; default: true."
    )
    weight_type: Literal["int8", "uint8"] | None = Field(
        None, description="int8: type of the weights; default: `int8`."
    )
    activation_type: Literal["int8", "uint8"] | None = Field(
        None, description="int8-static: type of the activations; default: `uint8`."
    )
    method: Literal["minmax", "entropy", "percentile"] | None = Field(
        None,
        description="int8-static: how ranges follow from the calibration data; default: `minmax`.",
    )
    percentile: Annotated[float, Field(gt=50, le=100)] | None = Field(
        None, description='int8-static, with method = "percentile"; default: 99.999.'
    )
    symmetric: bool | None = Field(
        None,
        description="int8-static: activations with zero point 0; int4-weight: weights; default: "
        "false for int8-static, true for int4-weight.",
    )
    reduce_range: bool | None = Field(
        None,
        description="int8: weights in 7 bits, so that x86 without VNNI does not saturate; default: "
        "where `cpus` holds `x86-avx2`.",
    )
    block_size: Literal[16, 32, 64, 128, 256] | None = Field(
        None, description="int4-weight: weights that share a scale; default: 32."
    )
    accuracy_level: Literal[0, 1, 2, 3, 4] | None = Field(
        None,
        description="int4-weight: least precision of the arithmetic: 0 unset, 1 fp32, 2 fp16, "
        "3 bf16, 4 int8; default: 0.",
    )


def _quantization(**options: object) -> Quantization:
    return Quantization.model_validate(options)


_FLOAT16 = _quantization(exclude_nodes=(), op_block_list=(), keep_io_types=True)

#: What holds for a precision when the manifest says nothing: these are also the only options it
#: has. A `reduce_range` of None follows the model's `cpus`, `operators` of None the precision.
BUILTIN_QUANTIZATION: dict[str, Quantization] = {
    "fp32": _quantization(),
    "fp16": _FLOAT16,
    "bf16": _FLOAT16,
    "half": _quantization(),
    "int8-dynamic": _quantization(
        exclude_nodes=(), operators=None, per_channel=True, weight_type="int8", reduce_range=None
    ),
    "int8-static": _quantization(
        exclude_nodes=(),
        operators=None,
        per_channel=True,
        weight_type="int8",
        activation_type="uint8",
        method="minmax",
        percentile=99.999,
        symmetric=False,
        reduce_range=None,
    ),
    "int4-weight": _quantization(
        exclude_nodes=(), operators=None, symmetric=True, block_size=32, accuracy_level=0
    ),
}


class Budget(Section):
    """What an artefact may cost."""

    max_size_mb: Ratio | None = Field(
        None, description="Bytes on disk with external data, in units of 10^6 bytes."
    )
    max_size_ratio: Ratio | None = Field(
        None, description="Bytes on disk as a share of the fp32 artefact's."
    )
    min_speedup: Speedups | None = Field(
        None,
        description="PyTorch's time / ONNX Runtime's, median over interleaved pairs, per target; "
        "a bare number means `cpu`.",
    )
    min_speedup_over_fp32: Speedups | None = Field(
        None,
        description="The fp32 artefact's time / this variant's, measured likewise. Default: 1 "
        "where `min_speedup` is given, since a variant that is slower than fp32 pays for nothing.",
    )
    max_regression: Regression | None = Field(
        None,
        description='How much slower than before it may be, `"10%"` or 0.1: than the artefact in '
        "`baseline`, else than the accepted baseline, else than the median of the last five runs "
        "(see docs/speed.md).",
    )
    max_p95_ms: Speedups | None = Field(
        None,
        description="95th percentile of the artefact's time, in ms, per target. An absolute time: "
        "it holds for one kind of machine.",
    )
    min_throughput: Speedups | None = Field(
        None,
        description="Items a second, per target: the first symbolic dim's size / median time. "
        "Absolute too.",
    )
    max_load_s: Speedups | None = Field(
        None,
        description="Seconds to open a session, the median of five, per target. Absolute too.",
    )
    max_memory_mb: Speedups | None = Field(
        None,
        description="What a session and one run add to the peak of the host's memory, or take of "
        "the GPU's where PyTorch runs on one, in units of 10^6 bytes, per target. Repeats within "
        "about 15%.",
    )
    min_coverage: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None,
        description="Share of the weights, and of the multiply-accumulates, that must carry the "
        "precision.",
    )
    max_cpu_fallback: Shares | None = Field(
        None,
        description="Share of the artefact's nodes, and of its multiply-accumulates, that may run "
        "on the CPU under a target of another provider, per target; a bare number means all of "
        "them. Default: no Conv, MatMul, Gemm, LSTM or other operator with weights may; the rest "
        "is warned about, since providers leave what handles shapes to the CPU on purpose.",
    )

    def speed_targets(self) -> set[str]:
        """The targets for which it limits time or memory."""
        tables = (
            *(self.min_speedup, self.min_speedup_over_fp32),
            *(self.max_p95_ms, self.min_throughput, self.max_load_s, self.max_memory_mb),
        )
        return {target for table in tables for target in table or {}}


class Input(Section):
    """One input of the model, in the order `forward` takes them."""

    shape: Shape | None = Field(
        None,
        description="Sizes; a string is a symbolic dim listed in `dims`. May be left out when "
        "the model has `shapes`.",
    )
    dtype: Dtype = Field("float32", description="Element type.")
    fill: Fill | None = Field(
        None,
        description="How cases fill it: `normal` (floats, the default), `uniform` and `integers` "
        "(in `range`; integers include both ends), `constant` (`value`) or `file` (`file`).",
    )
    range: Range | None = Field(None, description="Lowest and highest value the model is made for.")
    mean: float = Field(0.0, description="Mean of `normal`.")
    std: float = Field(1.0, gt=0, description="Standard deviation of `normal`.")
    value: float | None = Field(
        None, allow_inf_nan=True, description="The value of `constant`; `inf` and `nan` too."
    )
    file: str | None = Field(
        None, description="`.npy` or `.npz` with real examples; the first axis counts examples."
    )
    key: str | None = Field(None, description="The array in the `.npz`; default: the input's name.")
    nonfinite: bool = Field(
        False, description="NaN and infinity may occur in it: probes try them too."
    )


class Output(Section):
    """One output of the model, in the order `forward` returns them."""

    shape: Shape = Field(description="Sizes; a string is a symbolic dim.")
    dtype: Dtype = Field("float32", description="Element type.")
    range: Range | None = Field(
        None, description="Every element must lie in it, in PyTorch and in the artefact."
    )


class CaseFile(Section):
    """Inputs of your own, compared as they are."""

    file: str | None = Field(None, description="`.npz` with one array per input, in full shape.")
    source: str | None = Field(
        None,
        description="`module:callable` giving `{input: array}`, or an iterable of several.",
    )
    outside_range: bool = Field(
        False,
        description="The model is not made for these inputs: what differs warns and never fails.",
    )


class Calibration(Section):
    """Where int8-static takes the value ranges of the activations from.

    Without file, folder or source: random draws, which is warned about.
    """

    file: str | None = Field(
        None, description="`.npz` with one array per input; the first axis counts examples."
    )
    folder: str | None = Field(
        None,
        description="Folder of such files (or `.npy`, for a single input), taken in the order of "
        "their names.",
    )
    source: str | None = Field(
        None,
        description="`module:callable` giving an iterable of `{input: array}` batches, or "
        "`module:name` of one.",
    )
    count: Size | None = Field(
        None,
        description="How many examples (file, folder, draws) or batches (source); fewer than "
        "that are an error. Default: up to 64, and 16 draws.",
    )
    batch: Size = Field(1, description="Examples put into one run (file, folder, draws).")
    seed: int | None = Field(
        None,
        description="Takes the examples of file or folder at random; default: the first ones.",
    )


class Accuracy(Section):
    """A task metric on labelled data, for PyTorch and for every variant."""

    file: str | None = Field(
        None,
        description="`.npz` with one array per input and one of labels; the first axis counts "
        "samples.",
    )
    source: str | None = Field(
        None, description="`module:callable` giving an iterable of `({input: array}, labels)`."
    )
    labels: str = Field("labels", description="Name of the labels' array in the file.")
    metric: Metric | ImportPath = Field(
        "accuracy",
        description="`accuracy`, `precision`, `recall`, `f1` (of the largest element along "
        "`axis`), `mse`, or `module:callable` taking labels and outputs, larger being better.",
    )
    average: Literal["binary", "macro", "micro", "weighted"] = Field(
        "macro",
        description="How precision, recall and f1 are averaged over the classes; `binary`: class 1 "
        "of two.",
    )
    axis: int | None = Field(
        None,
        description="Axis of the output along which the classes lie, e.g. 1 for `[batch, classes, "
        "height, width]`. Default: the last, unless the labels fit another as well.",
    )
    output: str | None = Field(None, description="The output to judge; default: the first.")
    count: Size | None = Field(None, description="Use only the first samples; default: all.")
    batch: Size = Field(32, description="Samples in one run (file).")
    max_drop: Drops | None = Field(
        None,
        description="How much worse than PyTorch's the metric may be, in its own units (0.005 is "
        "half a point of accuracy): a number, or one per precision or glob over variant names. "
        "Default: any; the drop is only told.",
    )
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = Field(
        0.95, description="Confidence of the interval of the drop."
    )


class Latency(Section):
    """How speed is measured."""

    dims: Annotated[tuple[dict[str, Size], ...], Array] | None = Field(
        None,
        description="The points to measure, e.g. `[{ batch = 1 }, { batch = 8 }]`. Default: each "
        "value of the first symbolic dim, the others at their first value.",
    )
    seconds: float = Field(
        2.0,
        gt=0,
        le=600,
        description="Usual time for one point; a quarter or half of it where that decides it.",
    )
    longest: float = Field(
        6.0,
        gt=0,
        le=600,
        description="Time for one point that is too close to tell after the usual time.",
    )
    threads: int = Field(
        1,
        ge=1,
        description="Threads of PyTorch and of ONNX Runtime alike. More than one measure less "
        "exactly.",
    )
    boundary: Literal["host", "device"] = Field(
        "host",
        description="What is inside a timed call on a GPU: the way from the host's memory and "
        "back, or nothing but the run (`device`).",
    )
    cuda_graph: bool = Field(
        False,
        description="Whether ONNX Runtime captures the run as a CUDA graph and replays it; for "
        'targets with CUDA or TensorRT, with `boundary = "device"`.',
    )


class Mark(Section):
    """An expected failure or a skip, with its reason."""

    reason: Annotated[str, Field(min_length=1)] = Field(description="Why; shown in the report.")
    checks: Annotated[tuple[Check, ...], Array] | None = Field(
        None, description="Which checks; default: all."
    )
    variants: Strings | None = Field(
        None, description="Globs over variant names, e.g. `*-int8-static`; default: all."
    )
    targets: Targets | None = Field(None, description="Only on these targets; default: all.")


class Defaults(Section):
    """What every model inherits."""

    exporters: Exporters | None = Field(None, description="`dynamo`, `torchscript`.")
    opsets: Opsets | None = Field(None, description="ONNX opset versions to export.")
    precisions: Precisions | None = Field(
        None,
        description="`fp32`, `fp16`, `bf16`, `half` (the module itself cast to float16), "
        "`int8-dynamic`, `int8-static`, `int4-weight`.",
    )
    targets: Targets | None = Field(
        None,
        description="What runs the artefacts: `cpu`, `cuda`, `tensorrt`, `openvino`, `reference` "
        "(onnx's own evaluator, for tiny models), or a table `[targets.NAME]`.",
    )
    required_targets: AnyTargets | None = Field(
        None, description="Targets whose absence is a failure rather than a skip."
    )
    cpus: Cpus | None = Field(
        None,
        description="CPUs that the artefacts will run on: `x86-vnni`, `x86-avx2` (x86 without "
        "VNNI, where 8-bit weights saturate) and `arm64`. int8 is made for all of them, and judged "
        "as x86 without VNNI computes it wherever the gate runs; default: all three.",
    )
    draws: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        None, description="Seeded input draws per combination of dims."
    )
    probe_seconds: float | None = Field(
        None,
        ge=0,
        le=600,
        description="Time for inputs the plugin thinks of by itself, per model; 0 turns them off.",
    )
    tolerance: dict[str, Tolerance] | None = Field(
        None, description="Tolerances by precision, or by a glob over variant names."
    )
    budget: dict[str, Budget] | None = Field(
        None, description="Budgets by precision, or by a glob over variant names."
    )
    quantization: dict[str, Quantization] | None = Field(
        None, description="Options by precision, or by a glob over variant names."
    )
    latency: Latency | None = Field(None, description="How speed is measured.")
    marks: Strings | None = Field(
        None, description="pytest markers put on every check of the model."
    )


class ModelSection(Defaults):
    """One model: a PyTorch reference, its inputs and outputs, and what is allowed."""

    factory: str | None = Field(
        None,
        description="`module:callable` or `path.py:callable` returning an `nn.Module`. May be left "
        "out when the checkpoint holds the whole model (TorchScript, `.pt2`).",
    )
    kwargs: dict[str, Any] = Field(default_factory=dict, description="Arguments of the factory.")
    checkpoint: str | None = Field(
        None,
        description="state_dict (`.pt`, `.pth`, `.safetensors`), TorchScript archive or `.pt2`, "
        "relative to the manifest. A glob makes one model per match, named NAME-STEM.",
    )
    state_dict: str | None = Field(
        None, description="Where in the checkpoint the state_dict is; dots go deeper."
    )
    config_key: str | None = Field(
        None,
        description="Where in the checkpoint the model's config is; the factory and `shapes` "
        "receive it as `config`.",
    )
    trust: bool = Field(
        False,
        description="Unpickle the checkpoint without restrictions. It can then run any code: only "
        "for files you made yourself.",
    )
    shapes: str | None = Field(
        None,
        description="`module:callable` that takes `config` and returns the inputs' shapes by name.",
    )
    onnx: (
        Annotated[
            dict[Precision, str],
            Field(min_length=1),
            BeforeValidator(_artefacts_of, json_schema_input_type=str | dict[Precision, str]),
        ]
        | None
    ) = Field(
        None,
        description="Validation only: an existing artefact, or one per precision; nothing is "
        "exported.",
    )
    dims: dict[str, Annotated[tuple[Size, ...], Array, Field(min_length=1)]] = Field(
        default_factory=dict,
        description="Symbolic dims and the values they are swept over; exported as dynamic.",
    )
    example: str | None = Field(
        None,
        description="`.npz` with the inputs to export with, one array per input in full shape; "
        "compared as a case too. Default: a seeded draw.",
    )
    seed: int | None = Field(None, description="Seed of weights and inputs; default: the file's.")
    inputs: dict[str, Input] = Field(description="Inputs by name.", min_length=1)
    outputs: dict[str, Output] = Field(description="Outputs by name.", min_length=1)
    cases: dict[str, CaseFile] = Field(
        default_factory=dict, description="Inputs of your own, by case name."
    )
    calibration: Calibration | None = Field(None, description="Calibration data of int8-static.")
    accuracy: Accuracy | None = Field(None, description="A task metric on labelled data.")
    baseline: (
        Annotated[
            dict[str, str],
            Field(min_length=1),
            BeforeValidator(_artefacts_of, json_schema_input_type=str | dict[str, str]),
        ]
        | None
    ) = Field(
        None,
        description="The previous release's `.onnx`, timed beside this one's for "
        "`max_regression`: one (of `fp32`), or one per precision or glob over variant names.",
    )
    xfail: Annotated[tuple[Mark, ...], Array] = Field(
        (), description="Checks expected to fail; one that passes is reported (strict)."
    )
    skip: Annotated[tuple[Mark, ...], Array] = Field((), description="Checks that are not run.")


#: settings of `onnxruntime.SessionOptions` that are no config entries -> what they may be
SESSION_SETTINGS: dict[str, tuple[object, ...] | type] = {
    "graph_optimization_level": ("disable", "basic", "extended", "layout", "all"),
    "intra_op_num_threads": int,
    "inter_op_num_threads": int,
    "enable_cpu_mem_arena": bool,
    "enable_mem_pattern": bool,
}


def _option_of(value: object) -> object:
    if not isinstance(value, str | int | float):
        raise _error(
            f"expected a string, a number, true or false, got {value!r}: put option names that "
            'hold dots into quotes, e.g. "session.intra_op.allow_spinning" = "0"'
        )
    return value


Options = dict[str, Annotated[str | bool | int | float, BeforeValidator(_option_of)]]


class TargetOptions(Section):
    """What runs artefacts: a new target, or options of a built-in one."""

    provider: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="ONNX Runtime's execution provider, e.g. `QNNExecutionProvider`, or "
        "`ReferenceEvaluator`; default: by the name of a built-in target.",
    )
    provider_options: Options | None = Field(
        None, description='Options of the provider, e.g. `{ device_type = "GPU" }` for OpenVINO.'
    )
    session_options: Options | None = Field(
        None,
        description='Session config entries by their full name, e.g. `"session.'
        'disable_prepacking" = "1"`, and `graph_optimization_level` (`disable`, `basic`, '
        "`extended`, `layout`, `all`), `intra_op_num_threads`, `inter_op_num_threads` (not where "
        "speed is measured: `latency.threads` sets them there), `enable_cpu_mem_arena`, "
        "`enable_mem_pattern`.",
    )
    torch_device: Annotated[str, Field(min_length=1)] | None = Field(
        None,
        description="Where PyTorch is timed beside it, e.g. `cuda`; default: `cuda` for CUDA and "
        "TensorRT, else `cpu`.",
    )


class ManifestFile(Section):
    """The whole file."""

    schema_version: Literal[1] = Field(alias="schema", description="Version of this format.")
    seed: int = Field(0, description="Seed of every random draw.")
    defaults: Defaults = Field(default_factory=Defaults, description="What every model inherits.")
    targets: dict[str, TargetOptions] = Field(
        default_factory=dict, description="Targets of your own, and options of built-in ones."
    )
    models: dict[str, ModelSection] = Field(description="The models, by name.")
