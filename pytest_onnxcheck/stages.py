"""How long the stages of a check take. Knows no stage: whoever works names its own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["staged", "watched"]

_SECONDS: ContextVar[dict[str, float] | None] = ContextVar("onnxcheck_stages", default=None)


@contextmanager
def watched(seconds: dict[str, float], rest: str) -> Iterator[None]:
    """Adds what the stages inside take to a dict, and what is none of theirs under a name.

    Args:
        seconds: Stage -> seconds; what it holds already is added to.
        rest: The name of what no stage accounts for.
    """
    before, started = sum(seconds.values()), time.perf_counter()
    token = _SECONDS.set(seconds)
    try:
        yield
    finally:
        _SECONDS.reset(token)
        inside = sum(seconds.values()) - before
        _add(seconds, rest, time.perf_counter() - started - inside)


@contextmanager
def staged(stage: str) -> Iterator[None]:
    """Counts what is inside for a stage, without the stages inside it; nothing if nobody watches.

    Args:
        stage: Its name, for a person.
    """
    seconds = _SECONDS.get()
    if seconds is None:
        yield
    else:
        with watched(seconds, stage):
            yield


def _add(seconds: dict[str, float], stage: str, taken: float) -> None:
    seconds[stage] = seconds.get(stage, 0.0) + taken
