"""One output of a case, PyTorch's beside the artefact's."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Element", "FloorMeasurement", "OutputMeasurement", "RowMeasurement", "sqnr_db"]


def sqnr_db(rel_rms: float) -> float:
    """A relative error as a signal-to-quantization-noise ratio in dB."""
    return math.inf if rel_rms == 0 else -20 * math.log10(rel_rms)


@dataclass(frozen=True)
class Element:
    """One element of an output on both sides.

    Attributes:
        index: Where it is, one number an axis.
        expected: What PyTorch gives.
        actual: What the artefact gives.
    """

    index: tuple[int, ...]
    expected: float | int
    actual: float | int


@dataclass(frozen=True)
class RowMeasurement:
    """The example of a batch on which a metric is worst, held to its own magnitude if it is quiet.

    Attributes:
        metric: `rel_rms`, `cosine` or `floors`.
        index: Which example.
        value: Its own: a share of its magnitude, a cosine, or a number of noise floors.
        loudest: The example with the largest inputs.
        loudness: How large the inputs of this one are, as a share of the loudest's.
        alone: The same metric where the whole batch is copies of it; None where that was not run.
    """

    metric: str
    index: int
    value: float
    loudest: int
    loudness: float
    alone: float | None = None

    @property
    def values(self) -> tuple[tuple[str, float], ...]:
        """What it measures by metric: a relative error in sqnr_db too."""
        own = (self.metric, self.value)
        return (own, ("sqnr_db", sqnr_db(self.value))) if self.metric == "rel_rms" else (own,)


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
        perturbed_runs: How many perturbed runs of PyTorch the floor was measured from.
        row: The quiet example that is most floors of its own away; None where none is quiet.
        broken: Those of the `nonfinite` elements that PyTorch gives numbers for.
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
    perturbed_runs: int = 0
    row: RowMeasurement | None = None
    broken: int = 0

    @property
    def farthest(self) -> float:
        """The error in noise floors, of the whole output or of a quiet example by its own."""
        return self.ratio if self.row is None else max(self.ratio, self.row.value)


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
        rows: The examples on which relative metrics are worst; none without a batch of several.
        without_elements: Whether the manifest declares a fixed size of 0.
        lowest: The smallest finite e; None without one.
        highest: The largest finite e; None without one.
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
    rows: tuple[RowMeasurement, ...] = ()
    without_elements: bool = False
    lowest: float | None = None
    highest: float | None = None

    @property
    def sqnr_db(self) -> float | None:
        """Signal-to-quantization-noise ratio in dB, -20 log10(rel_rms)."""
        return None if self.rel_rms is None else sqnr_db(self.rel_rms)
