"""What is being done: told to whoever listens while it is, its seconds to whoever watches.

Knows no stage: whoever works names its own. Imports nothing of ours.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

__all__ = ["Listener", "Stage", "listen", "relay", "stage", "staged", "watched"]

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Stage:
    """Something that may take a while.

    Attributes:
        doing: What is done, e.g. `exporting`.
        what: To what, e.g. `net::dynamo-op20-fp32`.
    """

    doing: str
    what: str


#: is called with the innermost stage whenever another begins or ends; with None after the last.
#: What it raises when a stage begins takes the place of the stage
Listener = Callable[[Stage | None], None]

_listener: Listener | None = None
_stages: list[Stage] = []
_SECONDS: ContextVar[dict[str, float] | None] = ContextVar("onnxcheck_seconds", default=None)


def listen(listener: Listener | None) -> None:
    """Has a listener called from now on, in place of the last; None for nobody."""
    global _listener
    _listener = listener


def relay(stage: Stage | None) -> None:
    """Tells the listener what another process does in the place of this one."""
    if _listener is not None:
        _listener(stage)


@contextmanager
def stage(doing: str, *what: str) -> Iterator[None]:
    """Says what is being done, while it is, and counts its seconds if somebody watches.

    Args:
        doing: What, e.g. `exporting`; of few kinds, since seconds are counted by it.
        what: The names of what it is done to: a model, a variant, a target.
    """
    _stages.append(Stage(doing, "::".join(what)))
    seconds = _SECONDS.get()
    try:
        _tell()
        if seconds is None:
            yield
        else:
            with watched(seconds, doing):
                yield
    finally:
        _stages.pop()
        _tell()


def staged(
    doing: str, names: Callable[..., tuple[str, ...]]
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Makes a stage of a function.

    Args:
        doing: What it does.
        names: To what, from its arguments.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def within(*args: P.args, **kwargs: P.kwargs) -> T:
            with stage(doing, *names(*args, **kwargs)):
                return function(*args, **kwargs)

        return within

    return decorate


@contextmanager
def watched(seconds: dict[str, float], rest: str) -> Iterator[None]:
    """Adds what the stages inside take to a dict, and what is none of theirs under a name.

    A stage is counted without the stages inside it.

    Args:
        seconds: What is done -> seconds; what it holds already is added to.
        rest: The name of what no stage accounts for.
    """
    before, started = sum(seconds.values()), time.perf_counter()
    token = _SECONDS.set(seconds)
    try:
        yield
    finally:
        _SECONDS.reset(token)
        inside = sum(seconds.values()) - before
        taken = time.perf_counter() - started - inside
        seconds[rest] = seconds.get(rest, 0.0) + taken


def _tell() -> None:
    relay(_stages[-1] if _stages else None)
