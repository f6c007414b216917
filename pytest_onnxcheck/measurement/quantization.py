"""What became of the float artefact: what carries the precision, and how large it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from pytest_onnxcheck.measurement.export import FileCheck

__all__ = ["CalibrationMeasurement", "CoverageMeasurement", "QuantizationMeasurement"]


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
    options: dict[str, object] = field(default_factory=dict)
    coverage: CoverageMeasurement | None = None
    identical: bool = False
    clipped: tuple[str, ...] = ()
    vanished: tuple[str, ...] = ()
    checkpoint_bytes: int | None = None

    @property
    def size_ratio(self) -> float | None:
        """Bytes on disk as a share of the fp32 artefact's."""
        return self.file.size_bytes / self.float_bytes if self.float_bytes else None
