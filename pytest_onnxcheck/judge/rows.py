"""Judges the examples of a batch by themselves, where a loud one would hide a quiet one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_onnxcheck.judge.bounds import graded, told
from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import (
    EquivalenceMeasurement,
    OutputMeasurement,
    RowMeasurement,
    sqnr_db,
)
from pytest_onnxcheck.verdict import Finding, Grade

__all__ = ["company", "examples"]

#: Errors of examples are up to 1.7 times that of the whole output where nothing is wrong (the zoo
#: in int8): an example is told whose error is this many times as large.
_UNEVEN = 2.0

_COMPANY = (
    " (one scale for a whole batch does that): run such examples one at a time, bring all to one "
    "magnitude before the model, or use fp16"
)
_LOST = ": leave the layers that do it in float32 (exclude_nodes), or use a wider precision"


@dataclass(frozen=True)
class _Row:
    """An example against the bounds of a metric.

    Attributes:
        metric: One of `s.METRICS`.
        grade: Its own.
        alone: That of the example among copies of itself; None where it was not run.
        whole: That of the whole output.
        uneven: Whether its error is out of proportion to that of the whole output.
        text: What to say of it.
    """

    metric: str
    grade: Grade
    alone: Grade | None
    whole: Grade
    uneven: bool
    text: str


def examples(output: OutputMeasurement, tolerance: s.Tolerance) -> Iterator[tuple[Grade, str, str]]:
    """What is wrong with one example and does not show in the numbers of the whole output."""
    found = [row for row in _rows(output, tolerance) if row.uneven and row.grade > row.whole]
    if found:
        worst = max(found, key=lambda row: row.grade)
        yield worst.grade, worst.metric, worst.text
    yield from _noise(output, tolerance)


def company(measured: EquivalenceMeasurement, tolerance: s.Tolerance) -> Iterator[Finding]:
    """What is right alone, and wrong beside louder examples.

    What would fail warns, where it is the plugin that thought of it, and no more is told.
    """
    case = measured.company
    if case is None:
        return
    for output in case.outputs:
        found = [
            row
            for row in _rows(output, tolerance)
            if row.alone is not None and row.grade > row.alone
        ]
        if not found:
            continue
        worst = max(found, key=lambda row: row.grade)
        grade, text = worst.grade, worst.text
        if case.lenient:
            if grade is not Grade.FAIL:
                continue
            grade, text = Grade.WARN, f"{text}; no failure, since {case.lenient}"
        yield Finding(grade, f"output {output.name!r} {worst.metric}", text, case.case)


def _rows(output: OutputMeasurement, tolerance: s.Tolerance) -> Iterator[_Row]:
    for row in output.rows:
        for metric, value in row.values:
            bounds, whole = getattr(tolerance, metric), getattr(output, metric)
            if not isinstance(bounds, s.Bounds) or whole is None:
                continue
            larger = s.METRICS[metric]
            grade = graded(value, bounds, larger)
            text = told(metric, value, bounds, f" in {_which(output, row)}")
            text += f"; {whole:.3g} over the whole output"
            alone = None
            if row.alone is not None:
                found = _in(metric, row.alone)
                alone = graded(found, bounds, larger)
                text += f". {_cause(found, right=alone < grade)}"
                text += _COMPANY if alone < grade else _LOST
            whole_grade = graded(whole, bounds, larger)
            yield _Row(metric, grade, alone, whole_grade, _uneven(output, row), text)


def _noise(output: OutputMeasurement, tolerance: s.Tolerance) -> Iterator[tuple[Grade, str, str]]:
    floor, safety = output.floor, tolerance.safety
    if tolerance.policy != "noise-floor" or floor is None or safety is None:
        return
    row = floor.row
    if row is None or not floor.ratio <= safety < row.value:
        return
    text = (
        f"{row.value:.3g} noise floors of its own in {_which(output, row)}, allowed {safety:g}; "
        f"{floor.ratio:.3g} over the whole output"
    )
    if row.alone is not None:
        text += f". {_cause(row.alone, right=row.alone <= safety)}"
    yield Grade.FAIL, "error", text


def _cause(alone: float, *, right: bool) -> str:
    other = "what stands beside it changes it" if right else "it is lost whatever stands beside it"
    return f"In a batch of copies of this example it has {alone:.3g}, so {other}"


def _which(output: OutputMeasurement, row: RowMeasurement) -> str:
    """The example, and how quiet it is beside the loudest."""
    text = f"example {row.index} of {output.expected_shape[0]}"
    if row.index != row.loudest:
        text += f" (its inputs are {row.loudness:.2g} of example {row.loudest}'s)"
    return text


def _uneven(output: OutputMeasurement, row: RowMeasurement) -> bool:
    if row.metric == "cosine":  # its distance from 1 is about the square of a relative error
        return 1 - row.value > _UNEVEN**2 * (1 - (output.cosine or 0.0))
    return row.value > _UNEVEN * (output.rel_rms or 0.0)


def _in(metric: str, value: float) -> float:
    """A metric's value, from that of the row it was measured as."""
    return sqnr_db(value) if metric == "sqnr_db" else value
