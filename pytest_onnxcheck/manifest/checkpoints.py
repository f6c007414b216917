"""Which models a glob of checkpoints makes, and what they are called."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pytest_onnxcheck.manifest import sections as s

__all__ = ["checkpoints"]

_WILDCARDS = re.compile(r"[*?\[]")
#: what no model's name may hold, such as the `=` in the names that Lightning gives
_ODD = re.compile(r"[^A-Za-z0-9._+-]+")


def checkpoints(section: s.ModelSection, name: str, root: Path) -> list[tuple[str, Path | None]]:
    """Model names and checkpoints: one pair, or one per match of a glob (possibly none).

    A match is called by the parts of its path that have wildcards in the glob, `NAME-fold1` of
    `runs/*/best.pt`, without the file's suffix. Its name is thus the same whatever else matches,
    unless another one's would be.
    """
    if section.checkpoint is None:
        return [(name, None)]
    if not _WILDCARDS.search(section.checkpoint):
        return [(name, root / section.checkpoint)]
    pattern = Path(section.checkpoint)
    if pattern.is_absolute():
        root, pattern = Path(pattern.anchor), pattern.relative_to(pattern.anchor)
    found = sorted(root.glob(str(pattern)))
    parts = [_varying(path, root, pattern) for path in found]
    open_file = bool(_WILDCARDS.search(pattern.name))
    plain = [
        _joined(_without_suffix(p) if open_file and path.is_file() else p, "-")
        for p, path in zip(parts, found, strict=True)
    ]
    names = _told_apart(plain, [_joined(p, "-") for p in parts])
    names = _told_apart(names, [_joined(p, "+") for p in parts])
    return [(f"{name}-{called}", path) for called, path in zip(names, found, strict=True)]


def _varying(path: Path, root: Path, pattern: Path) -> list[str]:
    """The parts of a path that have wildcards in the pattern; of `**`, all that it stands for."""
    parts = list(path.relative_to(root).parts)
    wanted = list(pattern.parts)
    if "**" not in wanted:
        return list(_wild(wanted, parts))
    first, last = wanted.index("**"), len(wanted) - wanted[::-1].index("**")
    behind = len(parts) - (len(wanted) - last)
    before = _wild(wanted[:first], parts[:first])
    return [*before, *parts[first:behind], *_wild(wanted[last:], parts[behind:])]


def _wild(wanted: list[str], parts: list[str]) -> Iterator[str]:
    pairs = zip(wanted, parts, strict=True)
    return (part for pattern, part in pairs if _WILDCARDS.search(pattern))


def _without_suffix(parts: list[str]) -> list[str]:
    return [*parts[:-1], Path(parts[-1]).stem]


def _joined(parts: list[str], joint: str) -> str:
    return joint.join(_ODD.sub("_", part) for part in parts)


def _told_apart(names: list[str], others: list[str]) -> list[str]:
    """The names, and those of `others` for such as stand there twice."""
    counts = Counter(names)
    pairs = zip(names, others, strict=True)
    return [name if counts[name] == 1 else other for name, other in pairs]
