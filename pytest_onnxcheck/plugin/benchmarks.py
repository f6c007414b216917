"""pytest-benchmark's entries: one measurement fills the two of a check."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from pytest_onnxcheck.engine.speed.timing import Rounds
    from pytest_onnxcheck.measurement import LatencyMeasurement

__all__ = ["Benchmarks", "add_entries", "entries_since", "hide_tables"]

#: pytest-benchmark's options that are about what it shows
_DISPLAY = tuple(
    f"--benchmark-{name}"
    for name in (
        *("columns", "sort", "group-by", "name", "time-unit", "histogram", "compare", "verbose"),
        "cprofile",
    )
)


@dataclass(frozen=True)
class Benchmarks:
    """pytest-benchmark's `benchmark` fixture, once for each side."""

    onnxruntime: Any
    torch: Any

    @property
    def disabled(self) -> bool:
        """Whether nothing is timed: `--benchmark-disable`, or pytest-xdist."""
        return bool(self.onnxruntime.disabled)

    def skip(self) -> None:
        """Tells pytest-benchmark that the entries stay empty on purpose."""
        self.onnxruntime.skipped = self.torch.skipped = True
        self.discard()

    @contextmanager
    def skipped_on_error(self) -> Iterator[None]:
        """Leaves the entries empty where a measurement fails, and lets its error through."""
        try:
            yield
        except Exception:
            self.skip()
            raise

    def discard(self) -> None:
        """Keeps the entries out of what pytest-benchmark saves: a failure is no baseline."""
        self.onnxruntime.has_error = self.torch.has_error = True

    def label(self, group: str, name: str, fullname: str) -> None:
        """Names the entries as its tables show them: one group, told apart by backend."""
        for backend in ("torch", "onnxruntime"):
            entry = getattr(self, backend)
            entry.group = group
            entry.name = f"{name}-{backend}" if name else backend
            entry.fullname = f"{fullname}-{backend}"
            entry.param = entry.params = None

    def record(self, run: Callable[[], None]) -> None:
        """Runs what times both sides, as one round.

        Timing one side inside the `setup` of the other reads 12 times slower under coverage.
        """
        self.onnxruntime.pedantic(run, rounds=1)
        self.torch.pedantic(lambda: None, rounds=1)

    def fill(self, rounds: Rounds, model: str, measured: LatencyMeasurement) -> None:
        """Puts the wall times of the first two sides into the entries.

        Args:
            rounds: What was timed: PyTorch first, then the artefact.
            model: The model's name.
            measured: What was made of the rounds.
        """
        info = _info(model, measured)
        for side, backend in enumerate(("torch", "onnxruntime")):
            entry = getattr(self, backend)
            entry.extra_info.update(info, backend=backend)
            entry.stats.stats.data[:] = rounds.samples(side)


#: what an entry of pytest-benchmark's is made of, besides its times
_FIELDS = ("name", "fullname", "group", "param", "params", "extra_info", "iterations")


def entries_since(config: pytest.Config, before: int) -> list[dict[str, Any]]:
    """The entries of pytest-benchmark behind the first ones, as plain data.

    Args:
        config: pytest's.
        before: How many are left out.
    """
    session = getattr(config, "_benchmarksession", None)  # absent with -p no:benchmark
    return [
        {
            **{name: getattr(entry, name) for name in _FIELDS},
            "options": {
                name: getattr(value, "__name__", repr(value)) if callable(value) else value
                for name, value in entry.options.items()
            },
            "data": entry.stats.data,
            "has_error": entry.has_error,
        }
        for entry in (session.benchmarks[before:] if session else ())
    ]


def add_entries(config: pytest.Config, written: Iterable[Mapping[str, Any]]) -> None:
    """Gives pytest-benchmark entries that were measured in another process.

    Args:
        config: pytest's.
        written: What `entries_since` gave there.
    """
    from types import SimpleNamespace

    from pytest_benchmark.stats import Metadata

    for each in written:
        fixture = SimpleNamespace(**each, cprofile_stats=None)
        entry: Any = Metadata(  # type: ignore[no-untyped-call]
            fixture, iterations=each["iterations"], options=each["options"]
        )
        entry.stats.data[:] = each["data"]
        config._benchmarksession.benchmarks.append(entry)  # type: ignore[attr-defined]


def hide_tables(config: pytest.Config) -> None:
    """Takes our entries out of pytest-benchmark's tables, of which every check would fill one.

    They stay in what it saves, and regressions in them still fail. Nothing is taken out where an
    option of pytest-benchmark's on the command line says what to show.
    """
    session = getattr(config, "_benchmarksession", None)  # absent with -p no:benchmark
    if session is None or _asks_for_tables(config.invocation_params.args):
        return
    named = [
        (name, [each for each in found if not _ours(each)]) for name, found in session.groups or ()
    ]
    others = [(name, found) for name, found in named if found]
    if others:
        session.groups = others
    else:
        session.quiet = True  # without groups it would not look for regressions either


def _asks_for_tables(args: Iterable[str | os.PathLike[str]]) -> bool:
    given = {str(argument).partition("=")[0] for argument in args}
    return not given.isdisjoint(_DISPLAY)


def _ours(entry: Any) -> bool:
    return "artefact_sha256" in entry["extra_info"]


def _info(model: str, measured: LatencyMeasurement) -> dict[str, object]:
    """What pytest-benchmark saves beside the times."""
    return {
        "model": model,
        "artefact_sha256": measured.sha256,
        "provider": measured.provider,
        "dims": measured.dims,
        "threads": measured.threads,
        "boundary": measured.boundary,
        "speedup": measured.speedup,
        "cpus": os.cpu_count(),
    }
