"""Which part of the models a run took, where several share them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_onnxcheck.record.entry import Entry

__all__ = ["Shard", "seconds_by_model", "shared_out"]


@dataclass(frozen=True)
class Shard:
    """One of the parts that the models of a manifest are divided into.

    Attributes:
        index: Which one, from 1 on.
        count: How many there are.
    """

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def shared_out(weights: dict[str, float], count: int) -> list[list[str]]:
    """Divides names into parts of about the same weight, each name in one part.

    The heaviest comes first, each into the part that is the lightest until then. The same names
    and weights give the same parts, in whatever order they come.

    Args:
        weights: Name -> weight.
        count: How many parts.
    """
    parts: list[list[str]] = [[] for _ in range(count)]
    loads = [0.0] * count
    for name in sorted(weights, key=lambda name: (-weights[name], name)):
        lightest = min(range(count), key=lambda part: (loads[part], len(parts[part]), part))
        parts[lightest].append(name)
        loads[lightest] += weights[name]
    return parts


def seconds_by_model(entries: Iterable[Entry]) -> dict[str, float]:
    """Model -> seconds that its checks took in an earlier run, building included."""
    found: dict[str, float] = {}
    for entry in entries:
        seconds = sum(entry.stages.values()) or entry.seconds
        found[entry.model] = found.get(entry.model, 0.0) + seconds
    return found
