"""The commit that holds the sources of a release."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Source", "source_of"]

_SECONDS = 60


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
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return Source()
    status = _git(root, "status", "--porcelain", "-z", "--untracked-files=all", "--", *names)
    lines = [line for line in (status or "").split("\0") if line]
    changed = [line[3:] for line in lines if not line.startswith("??")]
    new_code = [line[3:] for line in lines if line.startswith("??") and line.endswith(".py")]
    return Source(commit.strip(), tuple(sorted({*changed, *new_code})))


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints; None where there is none, or it refuses."""
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
