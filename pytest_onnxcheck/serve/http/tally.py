"""Jobs that have ended, each counted once: what is told of them never falls."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.jobs.job import Job
    from pytest_onnxcheck.serve.jobs.queue import Jobs

__all__ = ["Tally", "Told"]


@dataclass(frozen=True)
class Told:
    """What has become of all jobs so far, by kind and state.

    Attributes:
        waiting: Those that wait or run now.
        ended: Those that have ended.
        timed: Those of them that had begun.
        seconds: How long these ran, together.
    """

    waiting: Counter[tuple[str, str]] = field(default_factory=Counter)
    ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    timed: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)


class Tally:
    """Counts the jobs of a store: all at the first look, then what is new. Threads may share it.

    Args:
        jobs: The jobs.
    """

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._told = Told()
        #: below this number every job is counted; and those above it that are
        self._next = 1
        self._ahead: set[int] = set()

    def look(self) -> Told:
        """What has become of the jobs by now.

        Raises:
            StoreError: The store is not reached.
        """
        with self._lock:
            told = self._told
            waiting: Counter[tuple[str, str]] = Counter()
            for job in self._jobs.all(limit=self._jobs.count() + 1 - self._next):
                if not job.over:
                    waiting[job.kind, job.state] += 1
                elif job.number >= self._next and job.number not in self._ahead:
                    self._ahead.add(job.number)
                    self._count(job)
            while self._next in self._ahead:
                self._ahead.remove(self._next)
                self._next += 1
            return Told(waiting, told.ended.copy(), told.timed.copy(), dict(told.seconds))

    def _count(self, job: Job) -> None:
        told, of = self._told, (job.kind, job.state)
        told.ended[of] += 1
        if job.started is not None and job.ended is not None:
            took = datetime.fromisoformat(job.ended) - datetime.fromisoformat(job.started)
            told.timed[of] += 1
            told.seconds[of] = told.seconds.get(of, 0.0) + took.total_seconds()
