"""How errors and lists are put into words."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

__all__ = ["closest", "listed", "meant", "one_line", "runs", "several"]


def one_line(text: object, limit: int | None = None) -> str:
    """A text, or an error's, with every run of white space turned into one space.

    Args:
        text: The text; what is none is turned into one by `str`.
        limit: How many characters are kept. A text that is cut ends in ` …`.
    """
    line = " ".join(str(text).split())
    return line if limit is None or len(line) <= limit else f"{line[:limit]} …"


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like another; None where none is like it."""
    return next(iter(difflib.get_close_matches(name, list(known), 1)), None)


def meant(name: str, known: Iterable[str]) -> str:
    """Which of the known names may be meant, ` (did you mean 'shape'?)`; empty where none is."""
    close = closest(name, known)
    return "" if close is None else f" (did you mean {close!r}?)"


def listed(parts: Sequence[str]) -> str:
    """All parts, e.g. `a, b and c`."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def several(names: Sequence[str], most: int = 5) -> str:
    """The first names of many, e.g. `a, b, c and 4 more`.

    Args:
        names: All of them.
        most: How many are listed.
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def runs(numbers: Sequence[int], step: int = 1, most: int = 8) -> str:
    """Numbers with those that follow one another put together, e.g. `3, 17..24 and 30`.

    Args:
        numbers: The numbers, in ascending order.
        step: How far apart two that follow one another are.
        most: How many parts are listed.
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + step:
            parts[-1].append(number)
        else:
            parts.append([number])
    shown: list[str] = []
    for part in parts:
        ends = [f"{part[0]}..{part[-1]}"] if len(part) > 2 else map(str, part)
        shown += ends
    if len(shown) > most:
        return several(shown, most)
    return listed(shown)
