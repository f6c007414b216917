"""How long parts of a trial took, and whether those of another fit into the time that is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["NoTime", "Pace"]


class NoTime(Exception):  # noqa: N818
    """A part would take longer than there is time."""


class Pace:
    """Keeps what is tried within a time, by what its parts have taken so far.

    A part cannot be stopped once it has begun: it is begun only where the longest that one of its
    name took fits into what is left. Of one that was never seen nothing is known, and it is begun.
    """

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._longest: dict[str, float] = {}

    @property
    def left(self) -> float:
        """Seconds until the time is over; below zero when it is."""
        return self._until - time.monotonic()

    def expect(self, name: str, seconds: float) -> None:
        """Has a part expected to take at least so long."""
        self._longest[name] = max(seconds, self._longest.get(name, 0.0))

    def seen(self, name: str) -> float:
        """The longest that a part of the name took or is expected to; 0 where nothing is known."""
        return self._longest.get(name, 0.0)

    def require(self, *names: str) -> None:
        """Makes sure that there is time for parts, one after the other.

        Raises:
            NoTime: There is none.
        """
        if sum(map(self.seen, names)) > max(self.left, 0.0) or self.left <= 0:
            raise NoTime

    @contextmanager
    def part(self, name: str, *rest: str) -> Iterator[None]:
        """Measures a part, if there is time for it and the rest of the trial.

        Raises:
            NoTime: There is none.
        """
        self.require(name, *rest)
        begun = time.monotonic()
        try:
            yield
        finally:
            self.expect(name, time.monotonic() - begun)
