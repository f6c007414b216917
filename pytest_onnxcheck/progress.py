"""What is being done at this moment, told to whoever listens. Imports nothing of ours."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

__all__ = ["Listener", "Stage", "listen", "stage", "staged"]

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


#: is called with the innermost stage whenever another begins or ends; with None after the outermost
Listener = Callable[[Stage | None], None]

_listener: Listener | None = None
_stages: list[Stage] = []


def listen(listener: Listener | None) -> None:
    """Has a listener called from now on, in place of the last; None for nobody."""
    global _listener
    _listener = listener


@contextmanager
def stage(doing: str, *what: str) -> Iterator[None]:
    """Says what is being done, while it is.

    Args:
        doing: What, e.g. `exporting`.
        what: The names of what it is done to: a model, a variant, a target.
    """
    _stages.append(Stage(doing, "::".join(what)))
    _tell()
    try:
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


def _tell() -> None:
    if _listener is not None:
        _listener(_stages[-1] if _stages else None)
