"""Who of pytest-xdist's workers gets which models.

Imports pytest-xdist, which may be absent: only what it calls imports this.
"""

from __future__ import annotations

from functools import cached_property

from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from pytest_onnxcheck.plugin.schedule import earlier_seconds, pieces, seconds_of

__all__ = ["ModelScheduling"]


class ModelScheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist is not typed
    """Gives a worker that is free the piece of work that takes longest; see `schedule.pieces`."""

    def _split_scope(self, nodeid: str) -> str:
        return self._pieces[nodeid]

    def _assign_work_unit(self, node: WorkerController) -> None:
        longest = max(self.workqueue, key=self._left)
        self.workqueue.move_to_end(longest, last=False)  # where the next is taken from
        super()._assign_work_unit(node)

    @cached_property
    def _seconds(self) -> dict[str, float]:
        return seconds_of(self.collection or (), earlier_seconds(self.config))

    @cached_property
    def _pieces(self) -> dict[str, str]:
        return pieces(self._seconds, self.numnodes)

    def _left(self, piece: str) -> float:
        """Seconds of what is not done of a piece: of one, a worker may have died half way."""
        checks = self.workqueue[piece]
        return sum(self._seconds[name] for name, done in checks.items() if not done)
