"""Builds the artefacts of later models in child processes, while checks run here.

Children begin with the last model and come towards the checks, so that neither waits for the other
until they meet. While something is timed, they are stopped.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_onnxcheck.plugin.resume import RESUME
from pytest_onnxcheck.processes import Child, NoAnswerError

if TYPE_CHECKING:
    import subprocess

    from pytest_onnxcheck.cache.builds import BuildCache
    from pytest_onnxcheck.manifest import Model

__all__ = ["Ahead"]

#: checks that measure time
_TIMED = ("latency", "recommend")

#: seconds a model may take to be built
_LONGEST = 24 * 3600.0

#: how often children may die before checks build everything themselves
_DEATHS = 3


@dataclass
class _Job:
    """A model, and the variants of it that are checked; done when a child is through with it."""

    model: Model
    variants: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)


class Ahead:
    """A plugin of its own, which is there where children are wanted.

    Args:
        count: How many children.
        artifacts: The artefacts' folder.
        cache: Opens where artefacts are kept; is pickled.
    """

    def __init__(self, count: int, artifacts: Path, cache: Callable[[], BuildCache]) -> None:
        self._count = count
        self._artifacts = artifacts
        self._cache = cache
        self._lock = threading.Lock()
        self._waiting: dict[str, _Job] = {}
        self._taken: dict[str, _Job] = {}
        self._running: set[subprocess.Popen[bytes]] = set()
        self._threads: list[threading.Thread] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Notes what will be checked, and starts to build it, but for what comes first."""
        from pytest_onnxcheck.plugin.item import CheckItem

        if session.config.option.collectonly:
            return
        resume = session.config.stash[RESUME]
        for item in session.items:
            # the limits of an isolated one are not held here, and what is told again needs nothing
            if not isinstance(item, CheckItem) or _isolated(item):
                continue
            if resume.report_of(item) is None:
                job = self._waiting.setdefault(_key(item), _Job(item.parent.model))
                if item.parent.variant.name not in job.variants:
                    job.variants.append(item.parent.variant.name)
        if len(self._waiting) < 2:
            return
        self._waiting.pop(next(iter(self._waiting)))
        for _ in range(min(self._count, len(self._waiting))):
            thread = threading.Thread(target=self._work, name="onnxcheck-ahead", daemon=True)
            self._threads.append(thread)
            thread.start()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """What is checked now, the check itself builds, unless a child is at it."""
        with self._lock:
            self._waiting.pop(_key(item), None)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """The same as `pytest_runtest_call` for a check that another process sets up and calls."""
        if getattr(item, "check", None) not in _TIMED or not _isolated(item):
            return (yield)
        with self._stopped():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """Keeps the children still while something is timed."""
        if getattr(item, "check", None) not in _TIMED:
            return (yield)
        if (job := self._taken.get(_key(item))) is not None:
            job.done.wait()  # it may hold what the check builds besides
        with self._stopped():
            return (yield)

    def pytest_sessionfinish(self) -> None:
        """Ends the children: what is still to be built, nobody needs any more."""
        with self._lock:
            self._waiting.clear()
            for process in self._running:
                process.kill()
        for thread in self._threads:
            thread.join()

    @contextmanager
    def _stopped(self) -> Iterator[None]:
        with self._lock:  # until then none is started
            for process in self._running:
                process.send_signal(signal.SIGSTOP)
            try:
                yield
            finally:
                for process in self._running:
                    process.send_signal(signal.SIGCONT)

    def _work(self) -> None:
        """Hands one model after the other to a child; to another one, where it dies of it."""
        from pytest_onnxcheck.engine import ahead

        child, deaths = Child("-m", ahead.__name__, str(os.getpid())), 0
        while deaths < _DEATHS and (job := self._next(child)) is not None:
            question = ahead.question(job.model, job.variants, self._artifacts, self._cache)
            try:
                child.ask(question, timeout=_LONGEST)
            except NoAnswerError:  # the check builds it itself, and tells
                deaths += 1
            job.done.set()
        child.close()

    def _next(self, child: Child) -> _Job | None:
        """The last model that nobody has begun with; the child runs when this is over."""
        with self._lock:
            self._running = {process for process in self._running if process.poll() is None}
            if not self._waiting:
                return None
            key, job = self._waiting.popitem()
            self._taken[key] = job
            self._running.add(child.start())
            return job


def _isolated(item: pytest.Item) -> bool:
    """Whether a check runs in a process of its model's own."""
    isolation = item.config.pluginmanager.getplugin("onnxcheck-isolation")
    return isolation is not None and isolation.limits_of(item) is not None


def _key(item: pytest.Item) -> str:
    """The node id of a check's model."""
    return "::".join(item.nodeid.split("::")[:2])
