"""How errors and lists are put into words."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["one_line", "several"]


def one_line(text: object, limit: int | None = None) -> str:
    """A text, or an error's, with every run of white space turned into one space.

    Args:
        text: The text; what is none is turned into one by `str`.
        limit: How many characters are kept. A text that is cut ends in ` …`.
    """
    line = " ".join(str(text).split())
    return line if limit is None or len(line) <= limit else f"{line[:limit]} …"


def several(names: Sequence[str], most: int = 5) -> str:
    """The first names of many, e.g. `a, b, c and 4 more`.

    Args:
        names: All of them.
        most: How many are listed.
    """
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
