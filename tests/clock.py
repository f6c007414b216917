"""Clocks that only what is timed moves: what is decided depends on no machine.

Tests of the engine import it, and a project's conftest is made of it (`Project.on_clock`).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from pytest_onnxcheck.engine.checks import latency
from pytest_onnxcheck.engine.oracle import search
from pytest_onnxcheck.engine.runtime import worker
from pytest_onnxcheck.engine.speed import timing


class Clock:
    """Stands for the module `time` where calls are timed: all three clocks are one.

    Attributes:
        now: What it shows, in seconds.
    """

    get_clock_info = staticmethod(time.get_clock_info)

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now

    thread_time = process_time = perf_counter

    def call(self, seconds: float, call: Callable[[], Any] = lambda: None) -> Callable[[], Any]:
        """A call that takes so many seconds, or 1% more or less."""
        return self.taking((seconds * share for share in itertools.cycle((1.0, 0.99, 1.01))), call)

    def taking(
        self, seconds: Iterator[float], call: Callable[[], Any] = lambda: None
    ) -> Callable[[], Any]:
        """A call that takes what the iterator says."""

        def moved() -> Any:
            done = call()
            self.now += next(seconds)
            return done

        return moved


def installed(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock, by which calls are timed from now on."""
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    monkeypatch.setattr(worker, "time", clock)
    return clock


class Ticking:
    """Stands for the module `time` in `engine.oracle.search`: time passes when it is looked at.

    Attributes:
        now: What it shows, in seconds.
    """

    def __init__(self, seconds: float) -> None:
        self.now = 0.0
        self._seconds = seconds

    def monotonic(self) -> float:
        self.now += self._seconds
        return self.now


def ticking(monkeypatch: pytest.MonkeyPatch, seconds: float = 1e-3) -> Ticking:
    """The clock of searches, of which each look takes so long."""
    clock = Ticking(seconds)
    monkeypatch.setattr(search, "time", clock)
    return clock


def paced(
    monkeypatch: pytest.MonkeyPatch,
    *,
    pytorch: float = 4e-3,
    own: float = 1e-3,
    other: float = 2e-3,
    kernel: float = 1.2e-3,
) -> None:
    """Lets the sides of `test_latency` take so many seconds.

    Args:
        monkeypatch: Undoes it.
        pytorch: PyTorch.
        own: The artefact.
        other: The fp32 artefact beside it, and an earlier one.
        kernel: The fixed kernel.
    """
    clock = installed(monkeypatch)

    def interleave(calls: Sequence[Callable[[], Any]], *args: Any) -> timing.Rounds:
        seconds = (pytorch, own, *[other] * (len(calls) - 3), kernel)
        run = [*calls[:-1], lambda: None]  # the kernel is no part of any test
        return timing.interleave([*map(clock.call, seconds, run)], *args)

    monkeypatch.setattr(latency, "interleave", interleave)
