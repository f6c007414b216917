"""What `--onnxcheck-recommend` prints: the recipes that were tried, and the TOML of the best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pytest_onnxcheck.report.table import file_size

__all__ = ["recommendations"]

_HEADER = ("recipe", "size", "of fp32", "x PyTorch", "x fp32", "rel_rms", "coverage", "problem")

_LONGEST = 90


def recommendations(entries: Iterable[dict[str, Any]]) -> list[str]:
    """The lines for every check that tried recipes: a table, and what to put in the manifest.

    Args:
        entries: Of the record.
    """
    return [line for entry in entries if entry["check"] == "recommend" for line in _lines(entry)]


def _lines(entry: dict[str, Any]) -> Iterator[str]:
    measured = entry.get("measurement")
    if measured is None:
        return
    yield f"recommend  {entry['model']}::{entry['variant']} [{entry['target']}]"
    rows = [_HEADER, *(_cells(trial) for trial in measured["tried"])]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    best = measured["best"] if measured["pays"] else None
    marks = ["  ", *("* " if i == best else "  " for i in range(len(rows) - 1))]
    for mark, row in zip(marks, rows, strict=True):
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {mark}{'  '.join(cells)}".rstrip()
    if measured["untried"]:
        yield (
            f"    {measured['untried']} more were not tried: {measured['seconds']:g} s were over "
            "(--onnxcheck-recommend=SECONDS)"
        )
    if measured["best"] is None:
        yield "  none meets its tolerance and budget"
    elif best is None:
        yield "  none pays: release fp32"
    else:
        yield "  to put in the manifest, a table at its end:"
    yield from (f"    {line}" for line in (measured["toml"] or "").splitlines())


def _cells(trial: dict[str, Any]) -> Sequence[str]:
    size = trial["size_bytes"]
    problem = " ".join(str(trial["problem"] or "-").split())
    return (
        " ".join([trial["precision"], *map(_option, trial["options"].items())]),
        "-" if size is None else file_size(size),
        *(
            "-" if trial[key] is None else format(float(trial[key]), form)
            for key, form in (
                ("size_ratio", ".2f"),
                ("speedup", ".2f"),
                ("speedup_over_fp32", ".2f"),
                ("rel_rms", ".3g"),
                ("coverage", ".2f"),
            )
        ),
        problem if len(problem) <= _LONGEST else f"{problem[: _LONGEST - 1]}…",
    )


def _option(option: tuple[str, Any]) -> str:
    name, value = option
    # the names of nodes are in the TOML
    return f"{name}={len(value)} nodes" if isinstance(value, list | tuple) else f"{name}={value}"
