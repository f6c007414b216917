"""What is run where, and when: the work of a run cut into pieces, and how long each may take.

Knows checks by their names alone, `FILE::MODEL::VARIANT::test_CHECK[POINT]`, which is all that the
process has that hands them out to workers.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from pytest_onnxcheck.plugin.settings import SETTINGS

if TYPE_CHECKING:
    import pytest

    from pytest_onnxcheck.record.entry import Entry

__all__ = [
    "divide_threads",
    "earlier_seconds",
    "keep_seconds",
    "only_models",
    "pieces",
    "seconds_of",
    "worker_count",
]

#: where pytest keeps the seconds of earlier runs, in its cache
_CACHE = "onnxcheck/seconds"

#: how far the last worker may be behind an even share before a model is cut, which repeats work
_UNEVEN = 1.2

#: seconds of a check that was never run, roughly what the zoo's take; others take one
_GUESSED = {
    "test_export": 1.0,
    "test_quantization": 2.0,
    "test_structure": 0.1,
    "test_mutation": 5.0,
    "test_latency": 3.0,
    "test_recommend": 60.0,
}

#: seconds of an export by dynamo, which is made for the first check of a variant in fp32
_DYNAMO = 4.0


def pieces(seconds: Mapping[str, float], workers: int) -> dict[str, str]:
    """Cuts a run into pieces, each for one worker, which are taken the longest first.

    A piece is a model: its variants share what PyTorch gives, and the fp32 artefact. One that would
    leave workers idle at the end is cut into the variants of each export, or into single ones.

    Args:
        seconds: How long each check may take, by node id.
        workers: How many there are.

    Returns:
        Check -> the name of its piece, which its node id begins with.
    """
    found = {name: _model(name) for name in seconds}
    bearable = _UNEVEN * sum(seconds.values()) / max(1, workers)
    while True:
        totals: dict[str, float] = {}
        for name, piece in found.items():
            totals[piece] = totals.get(piece, 0.0) + seconds[name]
        end, last = _end(totals, workers)
        finer = _cut([name for name, piece in found.items() if piece == last])
        if end <= bearable or not finer:
            return found
        found |= finer


def seconds_of(names: Iterable[str], known: Mapping[str, float]) -> dict[str, float]:
    """How long checks may take: what they took before, else a guess by what they are."""
    return {name: known[name] if name in known else _guessed(name) for name in names}


def earlier_seconds(config: pytest.Config) -> dict[str, float]:
    """Seconds of the checks that earlier runs made, by node id; none without pytest's cache."""
    cache = getattr(config, "cache", None)  # none with -p no:cacheprovider
    found = None if cache is None else cache.get(_CACHE, None)
    if not isinstance(found, dict):
        return {}
    return {
        name: float(taken)
        for name, taken in found.items()
        if isinstance(taken, int | float) and 0 <= taken < float("inf")
    }


def keep_seconds(config: pytest.Config, entries: Iterable[Entry]) -> None:
    """Keeps what checks took, building included, beside what earlier runs found of others."""
    cache = getattr(config, "cache", None)
    taken = {entry.nodeid: round(sum(entry.stages.values()), 2) for entry in entries}
    if cache is not None and taken:
        cache.set(_CACHE, earlier_seconds(config) | taken)


def worker_count() -> int:
    """How many workers of pytest-xdist there are, of which this process is one; 0 if it is none."""
    return int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))


def divide_threads(processes: int) -> None:
    """Gives PyTorch and ONNX Runtime their share of the processors, unless the user has said more.

    Both read it later: PyTorch when it is imported. What is timed has threads of its own number.

    Args:
        processes: How many work at once.
    """
    if processes > 1:
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (cpus or 1) // processes)))


def only_models(config: pytest.Config) -> bool:
    """Whether a run is about manifests alone."""
    files = [argument.partition("::")[0] for argument in config.args]
    return config.stash[SETTINGS].wanted and all(file.endswith(".toml") for file in files)


def _end(totals: Mapping[str, float], workers: int) -> tuple[float, str]:
    """When the last worker is done, and with which piece."""
    free = [0.0] * max(1, workers)
    end, last = 0.0, ""
    for piece in sorted(totals, key=lambda piece: -totals[piece]):
        done = heapq.heappop(free) + totals[piece]
        heapq.heappush(free, done)
        if done > end:
            end, last = done, piece
    return end, last


def _cut(names: Sequence[str]) -> dict[str, str]:
    """The pieces that one can be cut into; empty where it is a single variant."""
    for cut in (_export, _variant):
        found = {name: cut(name) for name in names}
        if len(set(found.values())) > 1:
            return found
    return {}


def _model(name: str) -> str:
    return "::".join(name.split("::")[:2])


def _variant(name: str) -> str:
    return "::".join(name.split("::")[:3])


def _export(name: str) -> str:
    """The part of a variant's name that its fp32 artefact has too: `EXPORTER-opN-`."""
    variant = _variant(name)
    head, _, last = variant.rpartition("::")
    return f"{head}::{'-'.join(last.split('-')[:2])}" if head.count("::") else variant


def _guessed(name: str) -> float:
    variant, _, check = name.rpartition("::")
    taken = _GUESSED.get(check.partition("[")[0], 1.0)
    exported = check == "test_export" and variant.endswith("-fp32") and "::dynamo-" in variant
    return taken + _DYNAMO * exported
