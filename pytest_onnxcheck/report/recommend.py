"""What `--onnxcheck-recommend` prints: the recipes that were tried, and the TOML of the best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_onnxcheck.measurement import RecipeTrial, RecommendMeasurement
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.report.table import file_size, shown
from pytest_onnxcheck.wording import one_line

__all__ = ["recommendations"]

_HEADER = ("recipe", "size", "of fp32", "x PyTorch", "x fp32", "rel_rms", "coverage", "problem")

_LONGEST = 90


def recommendations(entries: Iterable[Entry]) -> list[str]:
    """The lines for every check that tried recipes: a table, and what to put in the manifest."""
    return [
        line
        for entry in entries
        if isinstance(entry.measurement, RecommendMeasurement)
        for line in _lines(entry, entry.measurement)
    ]


def _lines(entry: Entry, measured: RecommendMeasurement) -> Iterator[str]:
    yield f"recommend  {entry.model}::{entry.variant} [{entry.target}]"
    rows = [_HEADER, *(_cells(trial) for trial in measured.tried)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    best = measured.best if measured.pays else None
    marks = ["  ", *("* " if i == best else "  " for i in range(len(rows) - 1))]
    for mark, row in zip(marks, rows, strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {mark}{'  '.join(cells)}".rstrip()
    if measured.untried:
        yield (
            f"    {measured.untried} more were not tried: {measured.seconds:g} s were over "
            "(--onnxcheck-recommend=SECONDS)"
        )
    if measured.best is None:
        yield "  none meets its tolerance and budget"
    elif best is None:
        yield "  none pays: release fp32"
    else:
        yield "  to put in the manifest, a table at its end:"
    yield from (f"    {line}" for line in (measured.toml or "").splitlines())


def _cells(trial: RecipeTrial) -> Sequence[str]:
    problem = one_line(trial.problem or "-")
    return (
        " ".join([trial.precision, *map(_option, trial.options.items())]),
        "-" if trial.size_bytes is None else file_size(trial.size_bytes),
        shown(trial.size_ratio, ".2f"),
        shown(trial.speedup, ".2f"),
        shown(trial.speedup_over_fp32, ".2f"),
        shown(trial.rel_rms, ".3g"),
        shown(trial.coverage, ".2f"),
        problem if len(problem) <= _LONGEST else f"{problem[: _LONGEST - 1]}…",
    )


def _option(option: tuple[str, object]) -> str:
    name, value = option
    # the names of nodes are in the TOML
    return f"{name}={len(value)} nodes" if isinstance(value, list | tuple) else f"{name}={value}"
