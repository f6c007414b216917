"""The commit that holds the sources of a release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_onnxcheck.record.origin import git

__all__ = ["Source", "source_of"]

#: how long git may take where many files are asked for
_SECONDS = 60.0


@dataclass(frozen=True)
class Source:
    """Where the sources are kept.

    Attributes:
        commit: The commit that is checked out; None where git does not know the folder.
        dirty: Files of the release that are not in the commit as they are, by their path in the
            repository.
    """

    commit: str | None = None
    dirty: tuple[str, ...] = ()


def source_of(root: Path, names: Sequence[str]) -> Source:
    """The commit of a folder, and which of some files it does not hold as they are.

    Args:
        root: The folder.
        names: The files' paths from there. What git ignores, and data and weights that were never
            added, are kept elsewhere on purpose: their hashes are in the bundle.
    """
    commit = git(root, "rev-parse", "--verify", "HEAD", seconds=_SECONDS)
    if commit is None:
        return Source()
    asked = ("status", "--porcelain", "-z", "--untracked-files=all", "--", *names)
    status = git(root, *asked, seconds=_SECONDS)
    lines = [line for line in (status or "").split("\0") if line]
    changed = [line[3:] for line in lines if not line.startswith("??")]
    new_code = [line[3:] for line in lines if line.startswith("??") and line.endswith(".py")]
    return Source(commit, tuple(sorted({*changed, *new_code})))
