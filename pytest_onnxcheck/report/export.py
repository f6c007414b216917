"""What `onnxcheck export` prints: a line a model, the errors wrapped, a summary."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_onnxcheck.report.table import file_size

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_onnxcheck.api.export import ExportedFile, Outcome
    from pytest_onnxcheck.judge.quality import Closeness

__all__ = ["close_text", "grade", "outcome_lines", "summary", "wrapped"]

#: columns of a name at most
_NAME = 30
#: of an error, more is told with --verbose
_MOST_LINES = 6


def outcome_lines(
    place: int,
    paths: Sequence[Path],
    outcome: Outcome,
    *,
    width: int = 80,
    metrics: bool = False,
    verbose: bool = False,
) -> Iterator[str]:
    """The lines of one checkpoint.

    Args:
        place: Its place, from 1.
        paths: All checkpoints: the names are aligned.
        outcome: What became of it.
        width: Columns that an error is wrapped to.
        metrics: Whether to show mean squared error and cosine similarity.
        verbose: Whether to show files, recipe, warnings and whole errors.
    """
    number = f"{place:>{len(str(len(paths)))}}/{len(paths)}"
    names = [_shortened(str(path)) for path in paths]
    name = names[place - 1].ljust(max(map(len, names)))
    most = None if verbose else _MOST_LINES
    if outcome.exported is None:
        yield f"{number}  {name}  failed"
        yield from wrapped(str(outcome.error), width, most)
        return
    files = outcome.exported.files
    head = f"{number}  {name}"
    if verbose:
        yield f"{head}  by {outcome.exported.recipe}"
    elif len(files) > 1:
        yield head.rstrip()
    for file in files:
        alone = len(files) == 1 and not verbose
        yield f"{head}  {_facts(file)}" if alone else f"     {file.precision:<13}{_facts(file)}"
        yield from _more(file, width, metrics=metrics, verbose=verbose)


def _facts(file: ExportedFile) -> str:
    """Size, error and grade of an artefact."""
    size = f"{file_size(file.size_bytes):>8}" if file.size_bytes else ""
    share = file.size_ratio
    ratio = f"{share:>5.0%}" if share is not None and file.precision != "fp32" else ""
    close = None if file.checked is None else file.checked.closeness
    error = "" if close is None else f"{close_text(close):<26}"
    return "  ".join(filter(None, [size, ratio, error, grade(file)]))


def grade(file: ExportedFile) -> str:
    """What became of an artefact, in a word or two."""
    if file.error is not None:
        return "failed"
    if file.checked is None:
        return "not compared"
    close = file.checked.closeness
    if close is None or file.checked.unsupported is not None:
        return "cannot run here"
    return str(close.quality)


def close_text(close: Closeness) -> str:
    """The largest difference, also in noise floors where there are some."""
    if close.max_abs is None:
        return "no outputs"
    floors = "" if close.floors is None else f" ({close.floors:.2g} floors)"
    return f"max {close.max_abs:.1e}{floors}"


def _more(file: ExportedFile, width: int, *, metrics: bool, verbose: bool) -> Iterator[str]:
    close = None if file.checked is None else file.checked.closeness
    if metrics and close is not None and close.mse is not None and close.cosine is not None:
        yield f"     MSE {close.mse:.2e}, cosine {close.cosine:.6f}"
    if file.error is not None:
        if file.checked is not None and file.checked.failures:
            yield "     not written (--no-validate writes it)"
        yield from wrapped(file.error, width, None if verbose else _MOST_LINES)
    if not verbose:
        return
    if file.path is not None:
        yield f"     {file.path}"
    for warning in () if file.checked is None else file.checked.warnings:
        yield from wrapped(f"warning: {warning}", width, None)


def summary(outcomes: Sequence[Outcome]) -> str:
    """How many were exported and how many failed, and where they are."""
    good = sum(outcome.ok for outcome in outcomes)
    files = [file for each in outcomes if each.exported for file in each.exported.files]
    folders = {str(file.path.parent.absolute()) for file in files if file.path is not None}
    written = sum(file.path is not None for file in files)
    places = ", ".join(sorted(folders)) if len(folders) < 3 else f"{len(folders)} folders"
    counts = [f"{good} of {len(outcomes)} exported"]
    if good < len(outcomes):
        counts.append(f"{len(outcomes) - good} failed")
    where = f" in {places}" if written else ""
    return f"{', '.join(counts)}; {written} file{'s' * (written != 1)}{where}\n"


def wrapped(text: str, width: int, most: int | None) -> list[str]:
    """A text, indented and wrapped, cut after so many lines.

    Args:
        text: The text; its line breaks are kept.
        width: Columns.
        most: How many lines are shown; None for all.
    """
    lines = [
        line
        for part in text.splitlines()
        for line in textwrap.wrap(part, max(width - 5, 20), break_on_hyphens=False) or [""]
    ]
    if most is not None and len(lines) > most:
        lines = [*lines[: most - 1], "... (--verbose shows all)"]
    return [f"     {line}".rstrip() for line in lines]


def _shortened(text: str) -> str:
    return text if len(text) <= _NAME else f"…{text[-_NAME + 1 :]}"
