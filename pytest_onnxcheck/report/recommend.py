"""What `--onnxcheck-recommend` prints: the recipes that were tried, and the TOML of the best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pytest_onnxcheck.measurement import RecipeTrial, RecommendMeasurement
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.report.layout import Line, fitted, wrapped
from pytest_onnxcheck.report.table import file_size, shown
from pytest_onnxcheck.wording import one_line

__all__ = ["recommendations"]

_HEADER = ("recipe", "size", "of fp32", "x PyTorch", "x fp32", "rel_rms", "coverage", "problem")

_LONGEST = 150


def recommendations(entries: Iterable[Entry], width: int) -> Iterator[Line]:
    """The lines for every check that tried recipes: a table, and what to put in the manifest."""
    for entry in entries:
        if isinstance(entry.measurement, RecommendMeasurement):
            yield from _lines(entry, entry.measurement, width)


def _lines(entry: Entry, measured: RecommendMeasurement, width: int) -> Iterator[Line]:
    yield f"recommend  {entry.model}::{entry.variant} [{entry.target}]", {"bold": True}
    best = measured.best if measured.pays else None
    table = fitted(_HEADER, [_cells(trial) for trial in measured.tried], width, indent="    ")
    for i, lines in enumerate(table, -1):
        marked = best is not None and i == best
        markup = {"green": True} if marked else {}
        yield (f"  * {lines[0][4:]}" if marked else lines[0]), markup
        yield from ((line, {}) for line in lines[1:])
    for text in _said(measured):
        yield from ((line, {}) for line in wrapped(text, width, "  "))
    # to be copied: not wrapped
    yield from ((f"    {line}", {}) for line in (measured.toml or "").splitlines())


def _said(measured: RecommendMeasurement) -> Iterator[str]:
    if measured.untried:
        yield (
            f"{measured.untried} more were not tried: {measured.seconds:g} s were over "
            "(--onnxcheck-recommend=SECONDS)"
        )
    if measured.best is None:
        yield "none meets its tolerance and budget"
    elif not measured.pays:
        yield "none pays: release fp32"
    else:
        yield "to put in the manifest, a table at its end:"


def _cells(trial: RecipeTrial) -> Sequence[str]:
    return (
        " ".join([trial.precision, *map(_option, trial.options.items())]),
        "-" if trial.size_bytes is None else file_size(trial.size_bytes),
        shown(trial.size_ratio, ".2f"),
        shown(trial.speedup, ".2f"),
        shown(trial.speedup_over_fp32, ".2f"),
        shown(trial.rel_rms, ".3g"),
        shown(trial.coverage, ".2f"),
        one_line(trial.problem or "-", _LONGEST),
    )


def _option(option: tuple[str, object]) -> str:
    name, value = option
    # the names of nodes are in the TOML
    return f"{name}={len(value)} nodes" if isinstance(value, list | tuple) else f"{name}={value}"
