"""Files that a model's code reads by itself: they are named, so that what is built follows them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["fault_of", "files_behind"]


def files_behind(patterns: Iterable[str], root: Path) -> dict[str, Path]:
    """The files that patterns match, by their path from the manifest's folder, sorted.

    Args:
        patterns: Globs from the manifest's folder on; what they match besides files is left out.
        root: That folder.

    Raises:
        ValueError: It is no pattern; the text says why.
    """
    found = {}
    for pattern in patterns:
        if not pattern.strip() or Path(pattern).is_absolute():
            raise ValueError("is not relative to the manifest's folder")
        try:
            paths = [path for path in root.glob(pattern) if path.is_file()]
        except (ValueError, IndexError, NotImplementedError) as error:
            raise ValueError(f"is no pattern: {error}") from None
        except OSError as error:  # its text has the whole path, which may be too long
            raise ValueError(f"cannot be looked for: {error.strerror}") from None
        found.update({Path(os.path.relpath(path, root)).as_posix(): path for path in paths})
    return dict(sorted(found.items()))


def fault_of(pattern: str, root: Path) -> str | None:
    """What is wrong with a pattern; None where it matches a file."""
    try:
        found = files_behind([pattern], root)
    except ValueError as error:
        return f"depends: {pattern!r} {error}"
    return None if found else f"depends: no file matches {pattern!r} in {root}"
