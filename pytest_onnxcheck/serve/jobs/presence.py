"""Which workers live: each holds a lock while it does, and says again and again that it is there.

The lock tells at once of a worker on this machine. What another machine's has said, this one
compares with what it said before: no clock of another machine is read.
"""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_onnxcheck.serve.jobs.queue import Jobs

__all__ = ["Presence"]

#: seconds between two signs of life, and without one until a worker counts as gone: more than the
#: store may take to answer, which a worker waits for when it could speak again
BEAT, SILENCE = 2.0, 30.0
#: seconds without a look, after which nobody may have been able to speak: the store was away
_AWAY = 10.0


@dataclass(frozen=True)
class _Heard:
    """What a worker said last, since when it says nothing else, and when this was looked at."""

    said: int | None
    since: float
    looked: float


class Presence:
    """A worker's own presence, and its view of the others.

    Args:
        jobs: The jobs that they share.

    Attributes:
        known: By which others know this one: `name` (`HOST:PID`), `host`, `token`.
    """

    def __init__(self, jobs: Jobs) -> None:
        from filelock import FileLock

        self._jobs = jobs
        self._folder = jobs.files / "workers"
        self._folder.mkdir(parents=True, exist_ok=True)
        host, token = socket.gethostname(), secrets.token_hex(8)
        self.known = {"name": f"{host}:{os.getpid()}", "host": host, "token": token}
        self._lock = FileLock(self._folder / f"{token}.lock")
        self._lock.acquire()
        self._beats = 0
        self._next = 0.0
        #: by token
        self._heard: dict[str, _Heard] = {}

    def beat(self) -> None:
        """Says that this one lives, where it is time to."""
        if time.monotonic() >= self._next:
            self._beats += 1
            self._next = time.monotonic() + BEAT
            self._jobs.say_alive(self.known["token"], self._beats)

    def gone(self, worker: Mapping[str, Any]) -> bool:
        """Whether another worker, by what is known of it, lives no more."""
        from filelock import FileLock, Timeout

        token = str(worker["token"])
        if token == self.known["token"]:
            return False
        path = self._folder / f"{Path(token).name}.lock"
        if worker["host"] == self.known["host"] and path.is_file():
            try:
                with FileLock(path, timeout=0):
                    path.unlink()
            except Timeout:
                return False
            except OSError:  # another user's: its signs of life tell
                return self._silent(token)
            return True
        return self._silent(token)

    def _silent(self, token: str) -> bool:
        """Whether a worker has said nothing for too long, of which the store was never away."""
        said, at = self._jobs.said_alive(token), time.monotonic()
        before = self._heard.get(token)
        if before is None or before.said != said or at - before.looked > _AWAY:
            before = _Heard(said, at, at)
        self._heard[token] = replace(before, looked=at)
        return at - before.since > SILENCE

    def close(self) -> None:
        """Leaves: nobody need wait to know it."""
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)
