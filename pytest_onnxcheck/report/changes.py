"""What `onnxcheck compare` prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_onnxcheck.judge.changes import Change
from pytest_onnxcheck.report.table import file_size

__all__ = ["change_lines"]


def change_lines(found: Sequence[Change]) -> Iterator[str]:
    """The changes, those that are worse marked with `!`, below their model and variant."""
    if not found:
        yield "nothing changed"
        return
    last = ("", "")
    for change in found:
        if (change.model, change.variant) != last:
            last = (change.model, change.variant)
            yield f"{change.model}::{change.variant}"
        mark = {True: "!", False: "+", None: " "}[change.worse]
        before, after = _shown(change, change.before), _shown(change, change.after)
        yield f"  {mark} {change.what:<28} {before:>10} -> {after}"


def _shown(change: Change, value: str | float | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, str):
        return value
    if change.what == "size":
        return file_size(int(value))
    return f"{value:.1e}" if change.what == "error" else f"{value:.2f}"
