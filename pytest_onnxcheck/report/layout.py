"""Texts and tables within a width."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from pytest_onnxcheck.report.escaping import visible

__all__ = ["Line", "fitted", "wrapped"]

#: a line of a terminal, and its markup as pytest's terminal writer takes it
Line = tuple[str, dict[str, bool]]

#: no text is made narrower than this
_NARROWEST = 30

#: what stands between two columns
_GAP = "  "


def wrapped(text: str, width: int, first: str = "", rest: str | None = None) -> list[str]:
    """A text in lines of at most `width` characters; words longer than that stay whole.

    Args:
        text: The text; its own line breaks are kept.
        width: Characters a line.
        first: What the first line begins with.
        rest: What the others do; `first` in blanks, unless it is given.
    """
    rest = " " * len(first) if rest is None else rest
    lines: list[str] = []
    for part in visible(text).splitlines() or [""]:
        lines += textwrap.wrap(
            part,
            max(width, len(rest) + _NARROWEST),
            initial_indent=rest if lines else first,
            subsequent_indent=rest,
            break_long_words=False,
            break_on_hyphens=False,
        ) or [rest if lines else first]
    return [line.rstrip() for line in lines]


def fitted(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    *,
    indent: str = "",
    below: bool = True,
) -> Iterator[list[str]]:
    """The lines of the header, and those of each row: a table no wider than `width`.

    Columns one below the other, as many as there is room for. The first stands at the left, the
    others, numbers mostly, at the right. Columns of dashes alone are left out.

    Args:
        header: The columns' names.
        rows: Their cells; a dash is one that says nothing.
        width: Characters a line.
        indent: What each line begins with.
        below: Whether columns for which there is no room follow below the line, with their names.
    """
    used = [i for i in range(len(header)) if i == 0 or any(row[i] not in ("-", "") for row in rows)]
    widths = {i: max(len(line[i]) for line in (header, *rows)) for i in used}
    room = width - len(indent) + len(_GAP)
    beside: list[int] = []
    for i in used:
        room -= widths[i] + len(_GAP)
        if room < 0 and beside:
            break
        beside.append(i)
    left_over = used[len(beside) :] if below else []
    for line in (header, *rows):
        cells = (line[i].rjust(widths[i]) if i else line[i].ljust(widths[i]) for i in beside)
        lines = [(indent + _GAP.join(cells)).rstrip()]
        told = [f"{header[i]} {line[i]}" for i in left_over if line[i] not in ("-", "")]
        if told and line is not header:
            lines += wrapped(", ".join(told), width, f"{indent}{_GAP * 2}")
        yield lines
