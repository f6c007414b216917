"""Names in a state_dict: what wrappers put into them, and those under a prefix.

A repro folder carries a copy of this file, which therefore imports nothing of this package.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    StateDict = Mapping[str, torch.Tensor]

__all__ = ["at_top", "bare_name", "dotted", "entries_under", "named_under", "prefixes", "tops"]

#: what DataParallel, DistributedDataParallel, AveragedModel and torch.compile put into names
_WRAPPERS = ("module", "_orig_mod")


def entries_under(state: StateDict, prefix: str) -> StateDict:
    """The entries under a prefix such as `model.`, without it, with torch's versions of them."""
    start = dotted(prefix)
    names = named_under(state, prefix)
    wrapped = any(not name.startswith(start) for name in names)
    cut = len(bare_name(start) if wrapped else start)
    renamed = {name: (bare_name(name) if wrapped else name)[cut:] for name in names}
    part: OrderedDict[str, torch.Tensor] = OrderedDict(
        (new, state[old]) for old, new in renamed.items()
    )
    versions = getattr(state, "_metadata", None) or {}
    paths = {path: bare_name(path + ".") if wrapped else path + "." for path in versions}
    kept = {
        there[cut:].removesuffix("."): versions[path]
        for path, there in paths.items()
        if there.startswith(bare_name(start) if wrapped else start)
    }
    part._metadata = kept  # type: ignore[attr-defined]
    return part


def bare_name(name: str) -> str:
    """A name without those of wrappers, wherever they stand in it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def dotted(prefix: str) -> str:
    """A prefix with a dot at its end; none where it is empty."""
    return prefix if not prefix or prefix.endswith(".") else f"{prefix}."


def named_under(state: StateDict, prefix: str) -> list[str]:
    """The names under a prefix; where there are none, those that are but for wrappers' names."""
    start = dotted(prefix)
    return [name for name in state if name.startswith(start)] or [
        name for name in state if bare_name(start) and bare_name(name).startswith(bare_name(start))
    ]


def at_top(wanted: StateDict, state: StateDict) -> StateDict:
    """The entries whose first name, but for wrappers', is one of the module's."""
    tops = {bare_name(name).split(".")[0] for name in wanted}
    return {name: value for name, value in state.items() if bare_name(name).split(".")[0] in tops}


def prefixes(state: StateDict, count: int) -> list[str]:
    """Prefixes of at least half as many entries as the model has, outer ones first."""
    held = Counter(prefix for name in state for prefix in _outer(name))
    # hooks may make two entries of one, and tied weights may have one name
    return sorted((p for p, n in held.items() if 2 * n >= count), key=lambda p: p.count("."))


def _outer(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:depth]) + "." for depth in range(1, len(parts)))


def tops(names: Iterable[str]) -> list[str]:
    """What names begin with, each once: `model.` of `model.first.weight`."""
    return list(dict.fromkeys(first + dot for first, dot, _ in (n.partition(".") for n in names)))
