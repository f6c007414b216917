"""Which of several artefacts that will all do is preferred. Imports nothing of ours."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["preferred"]

#: by how much of the least a time, a size and a loss may exceed it and still count as equal
_EQUAL = (0.05, 0.01, 0.1)


def preferred(costs: Sequence[tuple[float, float, float] | None]) -> int | None:
    """The fastest; of those within 5% of it the smallest, within 1% of that what loses least.

    Args:
        costs: Time (in any unit), bytes and `rel_rms` of each; None of what cannot be chosen.

    Returns:
        The place of the first of those that are left; None when there is nothing to choose from.
    """
    left = [(index, cost) for index, cost in enumerate(costs) if cost is not None]
    for part, share in enumerate(_EQUAL):
        limit = (1 + share) * min((cost[part] for _, cost in left), default=0.0)
        left = [(index, cost) for index, cost in left if cost[part] <= limit]
    return left[0][0] if left else None
