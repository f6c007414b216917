"""The values PyTorch computes while a reference runs, and how to find one of them again."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.oracle.floor import in_floors
from pytest_onnxcheck.engine.oracle.rounding import UNIT

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["INPUT", "Record", "Sketch", "Trace", "sketch"]

#: operator of the records that hold the model's inputs
INPUT = "input"

#: Relative margin beside the floor: an exporter that folds one layer's weights into another's
#: rounds them once more. A share of the largest magnitude.
_MARGIN = 2e-6

#: How many standard deviations the floor of a single element may be too low by chance.
_FLOOR_DEVIATIONS = 4.0

#: How many floors apart equal values of an fp16 artefact may be.
_COARSE_SAFETY = 1.0

#: How far from a record a value may be that is meant to be it, a share of its magnitude.
_NEAR = 1e-3


@dataclass(frozen=True)
class Sketch:
    """What an array looks like whatever the order of its elements.

    Attributes:
        kind: `f` for floats, `i` for integers, `b` for booleans, as numpy names kinds.
        size: Number of elements.
        low: Smallest finite element.
        high: Largest finite element.
        mean: Mean of the finite elements.
        rms: Root mean square of the finite elements.
        nonfinite: Numbers of NaN, of positive and of negative infinity.
    """

    kind: str
    size: int
    low: float
    high: float
    mean: float
    rms: float
    nonfinite: tuple[int, int, int]

    @property
    def scale(self) -> float:
        """Largest finite magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def distinctive(self) -> bool:
        """Whether an equal value elsewhere is hardly an accident: floats, not all the same."""
        return self.kind == "f" and self.low < self.high and not self.binary

    @property
    def binary(self) -> bool:
        """Whether all elements are 0 or 1, as in a mask."""
        ones = self.mean * self.size
        return (self.low, self.high) == (0.0, 1.0) and math.isclose(
            self.rms**2 * self.size, ones, rel_tol=1e-9
        )


@dataclass
class Record:
    """One value that PyTorch computed.

    Attributes:
        index: Its place in the order of execution.
        operator: The operator that computed it, e.g. `aten.linear`; `INPUT` for an input of the
            model.
        module: Path of the innermost module that was running, empty for the model itself.
        source: `file:line` of the innermost line of the user's code, empty where there is none.
        inputs: Indices of the records it was computed from.
        shape: Its shape.
        sketch: What it looks like.
        floor: How far float32's rounding moves it: its worst element, and the root mean square
            over its elements.
        value: The elements in row-major order, floats as float32; None beyond the memory allowed.
    """

    index: int
    operator: str
    module: str
    source: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    sketch: Sketch
    floor: tuple[float, float]
    value: Array | None


@dataclass
class Trace:
    """The values of one run.

    Attributes:
        records: Every value, in the order of execution.
        outputs: Index of the record of every output of the model; None where none was seen.
        inputs: Input name -> index of its record.
        in_float64: Whether the run was in float64, so that the records have floors.
        note: In what the records fall short, for people; empty where they do not.
    """

    records: list[Record] = field(default_factory=list)
    outputs: list[int | None] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    in_float64: bool = True
    note: str = ""

    def find(self, value: Array, safety: float, unit: float) -> tuple[list[int], list[int]]:
        """Looks for records that hold a value.

        Args:
            value: An array of any shape.
            safety: How many floors apart two equal values may be.
            unit: Half a unit in the last place of the precision it was computed in.

        Returns:
            Indices of the records with the same elements in the same order, whatever the shape,
            and, where there are none, of those with the same elements in another order.
        """
        wanted = sketch(value)
        near = [
            record
            for record in self._by_size[wanted.kind, wanted.size]
            if _alike(wanted, record.sketch, _allowed(record, safety, unit))
        ]
        same, reordered = [], []
        for record in near:
            if _equal(value, record, safety, unit, ordered=True):
                same.append(record.index)
        if not same and value.size > 2:
            for record in near:
                if _equal(value, record, safety, unit, ordered=False):
                    reordered.append(record.index)
        return same, reordered

    def nearest(self, value: Array, unit: float) -> tuple[int, float] | None:
        """Looks for the record that a wrong value is meant to be.

        Args:
            value: An array of any shape.
            unit: Half a unit in the last place of the precision it was computed in.

        Returns:
            Index of the record with nearly the same elements in the same order, and how far they
            are from it in noise floors; None where there is none.
        """
        wanted = sketch(value)
        if not wanted.distinctive or unit > UNIT["fp32"]:
            return None
        found = [
            (ratio, record.index)
            for record in self._by_size[wanted.kind, wanted.size]
            if record.value is not None
            and _alike(wanted, record.sketch, near := _near(record))
            and _within(value, record, near, ordered=True)
            and (ratio := self.ratio(value, record.index, unit)) is not None
        ]
        return min(found)[::-1] if found else None

    def ratio(self, value: Array, index: int, unit: float, *, ordered: bool = True) -> float | None:
        """How far a value is from a record, in noise floors.

        Args:
            value: An array of any shape.
            index: The record's.
            unit: Half a unit in the last place of the precision it was computed in.
            ordered: Whether the order of the elements counts.

        Returns:
            Infinity where something is not finite; None where the two cannot be compared.
        """
        import numpy as np

        record = self.records[index]
        if record.value is None or value.size != record.value.size or record.sketch.kind != "f":
            return None
        one, other = value.reshape(-1), record.value
        errors = _errors(one, other) if ordered else _errors(np.sort(one), np.sort(other))
        if not np.isfinite(errors).all():
            return math.inf
        worst, rms = _floor(record, unit)
        if not errors.size:
            return 0.0
        error = float(errors.max()), float(np.sqrt(np.mean(errors**2)))
        return max(in_floors(error[0], worst), in_floors(error[1], rms))

    def made_of(self, index: int, number: int) -> list[int]:
        """Indices of a record and of those computed from it in fewer than `number` steps."""
        found = [index]
        for _ in range(number - 1):
            found += [
                record.index
                for record in self.records
                if record.index not in found and set(found).intersection(record.inputs)
            ]
        return found

    @cached_property
    def _by_size(self) -> dict[tuple[str, int], list[Record]]:
        """The records by kind and number of elements."""
        grouped = defaultdict(list)
        for record in self.records:
            grouped[record.sketch.kind, record.sketch.size].append(record)
        return grouped


def sketch(value: Array) -> Sketch:
    """What an array looks like whatever the order of its elements."""
    import numpy as np

    kind = {"u": "i", "c": "f"}.get(value.dtype.kind, value.dtype.kind)
    flat = value.reshape(-1)
    wide = (np.abs(flat) if value.dtype.kind == "c" else flat).astype(np.float64)
    finite = np.isfinite(wide)
    counts = (0, 0, 0)
    if not finite.all():
        odd = wide[~finite]
        counts = int(np.isnan(odd).sum()), int((odd > 0).sum()), int((odd < 0).sum())
        wide = wide[finite]
    if not wide.size:
        return Sketch(kind, value.size, 0.0, 0.0, 0.0, 0.0, counts)
    scale = float(np.abs(wide).max()) or 1.0
    mean, rms = float(wide.mean()), scale * math.sqrt(float(np.mean((wide / scale) ** 2)))
    return Sketch(kind, value.size, float(wide.min()), float(wide.max()), mean, rms, counts)


def _equal(value: Array, record: Record, safety: float, unit: float, *, ordered: bool) -> bool:
    """Whether an array and a record hold the same elements, in the same order or in any."""
    import numpy as np

    if record.value is None:  # its sketch has to do
        return True
    if record.sketch.kind != "f":
        return ordered and bool(np.array_equal(value.reshape(-1), record.value))
    return _within(value, record, _allowed(record, safety, unit), ordered=ordered)


def _within(value: Array, record: Record, allowed: tuple[float, float], *, ordered: bool) -> bool:
    """Whether an array is so near a record: worst element, and root mean square."""
    import numpy as np

    assert record.value is not None
    one, other = value.reshape(-1), record.value
    if not ordered:
        one, other = np.sort(one), np.sort(other)
    errors = _errors(one, other)
    worst, rms = allowed
    if not errors.size:
        return True
    return bool(errors.max() <= worst and np.sqrt(np.mean(errors**2)) <= rms)


def _errors(one: Array, other: Array) -> Array:
    """How far apart two arrays are; equal infinities are not, and neither are NaN and NaN."""
    import numpy as np

    with np.errstate(invalid="ignore"):  # infinities of one sign cancel to NaN
        errors: Array = np.abs(one.astype(np.float64) - other)
    errors[(one == other) | (np.isnan(one) & np.isnan(other))] = 0.0
    return errors


def _near(record: Record) -> tuple[float, float]:
    """How far a wrong value may be from the record it is meant to be."""
    return _NEAR * record.sketch.scale, _NEAR * record.sketch.rms


def _floor(record: Record, unit: float) -> tuple[float, float]:
    """The floor of a record in a precision: of its worst element, and root mean square.

    Errors of first order grow with the precision's unit. The floor comes from one run: the fewer
    elements there are, the likelier is it too low by chance.
    """
    worst, rms = record.floor
    value = record.sketch
    grown = unit / UNIT["fp32"] * (1 + _FLOOR_DEVIATIONS / math.sqrt(max(1, value.size)))
    return (
        max(worst * grown, unit * value.scale),
        max(rms * grown, unit * value.rms / 3**0.5),
    )


def _allowed(record: Record, safety: float, unit: float) -> tuple[float, float]:
    """How far an equal value may be from a record: its worst element, and root mean square."""
    if unit > UNIT["fp32"]:
        # sums are kept in float32, so that the floor grows by less than the unit
        safety = min(safety, _COARSE_SAFETY)
    worst, rms = _floor(record, unit)
    margin = max(_MARGIN, unit)
    return (
        safety * worst + margin * record.sketch.scale,
        safety * rms + margin * record.sketch.rms,
    )


def _alike(one: Sketch, other: Sketch, allowed: tuple[float, float]) -> bool:
    """Whether two arrays can be equal up to an error. It is cheap, and sorts most of them out."""
    worst, rms = allowed
    return (
        one.nonfinite == other.nonfinite
        and abs(one.low - other.low) <= worst
        and abs(one.high - other.high) <= worst
        and abs(one.mean - other.mean) <= rms
        and abs(one.rms - other.rms) <= rms
    )
