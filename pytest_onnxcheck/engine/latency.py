"""Times PyTorch and ONNX Runtime, interleaved, through pytest-benchmark."""

from __future__ import annotations

import gc
import math
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.cache import Artefact
from pytest_onnxcheck.engine.inputs import fill_inputs
from pytest_onnxcheck.engine.reference import Reference
from pytest_onnxcheck.engine.runtime import Session, open_session, torch_device
from pytest_onnxcheck.measurement import LatencyMeasurement, Timing

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

__all__ = [
    "Benchmarks",
    "Sides",
    "interleave",
    "measure",
    "median_interval",
    "open_sides",
    "timed",
]

_WARM_UP_SECONDS = 0.2
_MIN_PAIRS = 21
_CONFIDENCE = 0.99


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
        self.torch.pedantic(lambda: None, rounds=1)
        self.onnxruntime.pedantic(run, rounds=1)

    def fill(self, measured: LatencyMeasurement, info: dict[str, Any]) -> None:
        """Puts the paired samples into the two entries."""
        for backend in ("torch", "onnxruntime"):
            entry = getattr(self, backend)
            timing: Timing = getattr(measured, backend)
            entry.extra_info.update(info, backend=backend, speedup=measured.speedup)
            entry.stats.stats.data[:] = timing.samples


def measure(
    artefact: Artefact,
    float_artefact: Artefact,
    reference: Reference,
    target: str,
    dims: dict[str, int],
    benchmarks: Benchmarks,
) -> LatencyMeasurement:
    """Measures all sides on the same inputs, host to host, with the same number of threads.

    They alternate call by call, so that what slows the machine slows all of them, and a speed-up
    is the median over the rounds of the ratio of two times.

    Args:
        artefact: What is measured.
        float_artefact: The fp32 artefact it was made from, measured beside it.
        reference: What it is measured against.
        target: Where the artefact runs; PyTorch runs on the GPU for CUDA targets.
        dims: Values of the symbolic dims.
        benchmarks: The pytest-benchmark entries that record the samples.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there.
    """
    try:
        sides = open_sides(artefact, float_artefact, reference, target)
    except Exception:
        benchmarks.skip()
        raise
    seconds = reference.model.latency.seconds
    measured = timed(sides, reference, dims, seconds, benchmarks.record)
    benchmarks.fill(measured, _info(reference, artefact, measured))
    return measured


@dataclass(frozen=True)
class Sides:
    """The sessions that are timed against PyTorch.

    Attributes:
        own: The artefact's.
        fp32: That of the fp32 artefact it was made from; None for fp32 itself.
        device: torch's device.
        load_seconds: What opening the artefact's session took.
    """

    own: Session
    fp32: Session | None
    device: str
    load_seconds: float


def open_sides(
    artefact: Artefact, float_artefact: Artefact, reference: Reference, target: str
) -> Sides:
    """Opens the sessions with the manifest's number of threads.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: An artefact does not load there.
    """
    threads = reference.model.latency.threads
    started = time.perf_counter()
    own = open_session(artefact, target, threads=threads)
    load_seconds = time.perf_counter() - started
    fp32 = None
    if artefact.path != float_artefact.path:
        fp32 = open_session(float_artefact, target, threads=threads)
    return Sides(own, fp32, torch_device(target), load_seconds)


def timed(
    sides: Sides,
    reference: Reference,
    dims: dict[str, int],
    seconds: float,
    record: Callable[[Callable[[], None]], None] = lambda run: run(),
) -> LatencyMeasurement:
    """Times the sessions and PyTorch on the same inputs, in turn.

    Args:
        sides: The sessions.
        reference: PyTorch.
        dims: Values of the symbolic dims.
        seconds: How long.
        record: Calls what it is given, which does all the timing.
    """
    threads = reference.model.latency.threads
    inputs = fill_inputs(reference, dims, "latency", 0)
    sessions = [session for session in (sides.own, sides.fp32) if session is not None]
    rounds: list[tuple[float, ...]] = []
    with _torch_call(reference, inputs, sides.device, threads) as call_torch:
        calls = [call_torch, *(session.call(inputs) for session in sessions)]
        record(lambda: rounds.extend(interleave(calls, seconds)))
    for session in sessions:
        session.check_provider("while it was timed")
    torch_times, own_times, *others = zip(*rounds, strict=True)
    speedup, interval = _median_ratio(torch_times, own_times)
    over_fp32 = _median_ratio(others[0], own_times) if others else (None, None)
    return LatencyMeasurement(
        target=sides.own.target,
        provider=sides.own.provider,
        dims=dims,
        threads=threads,
        boundary="host to host",
        torch=Timing("torch", torch_times),
        onnxruntime=Timing("onnxruntime", own_times),
        speedup=speedup,
        load_seconds=sides.load_seconds,
        interval=interval,
        fp32=Timing("onnxruntime fp32", others[0]) if others else None,
        speedup_over_fp32=over_fp32[0],
        interval_over_fp32=over_fp32[1],
    )


def interleave(calls: Sequence[Callable[[], Any]], seconds: float) -> list[tuple[float, ...]]:
    """Times calls in turn for a while: two in alternating order (AB BA AB ...), more at random.

    Args:
        calls: The calls.
        seconds: How long, after a short warm-up; at least 21 rounds are taken.

    Returns:
        Seconds of each call, one tuple per round, in the order of `calls`.
    """
    clock = time.perf_counter
    warm_until = clock() + _WARM_UP_SECONDS
    while True:
        for call in calls:
            call()
        if clock() >= warm_until:
            break
    rounds: list[tuple[float, ...]] = []
    order = list(range(len(calls)))
    shuffle = random.Random(0).shuffle
    collecting = gc.isenabled()
    gc.disable()
    try:
        until = clock() + seconds
        while clock() < until or len(rounds) < _MIN_PAIRS:
            times = {index: _timed(calls[index]) for index in order}
            rounds.append(tuple(times[index] for index in range(len(calls))))
            if len(order) > 2:
                shuffle(order)
            else:
                order.reverse()
    finally:
        if collecting:
            gc.enable()
    return rounds


def median_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Interval of the median from order statistics, whatever the distribution of the values.

    Their ranks are n/2 -+ z sqrt(n)/2, the normal approximation of the binomial (Conover,
    Practical Nonparametric Statistics, section 3.2). It under-covers where values depend on each
    other, as times do.

    Args:
        values: The values.
        confidence: E.g. 0.99.
    """
    ordered = sorted(values)
    z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
    low = math.floor((len(ordered) - z * math.sqrt(len(ordered))) / 2)
    low = max(low, 0)
    return ordered[low], ordered[-1 - low]


def _median_ratio(
    others: Sequence[float], own: Sequence[float]
) -> tuple[float, tuple[float, float]]:
    """How many times as long the others take: median of the rounds' ratios, its 99% interval."""
    ratios = [other / mine for other, mine in zip(others, own, strict=True)]
    return statistics.median(ratios), median_interval(ratios, _CONFIDENCE)


def _timed(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


@contextmanager
def _torch_call(
    reference: Reference, inputs: Arrays, device: str, threads: int
) -> Iterator[Callable[[], Any]]:
    """A call of PyTorch from host arrays to host arrays; threads are set back afterwards."""
    import copy

    import torch

    module = copy.deepcopy(reference.module).to(device)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)

    def call() -> list[Any]:
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        # copying the outputs to the host waits for the GPU
        return [output.cpu() for output in reference.call(module, moved)]

    try:
        with torch.inference_mode():
            yield call
    finally:
        torch.set_num_threads(before)


def _info(reference: Reference, artefact: Artefact, measured: LatencyMeasurement) -> dict[str, Any]:
    return {
        "model": reference.model.name,
        "artefact_sha256": artefact.sha256,
        "provider": measured.provider,
        "dims": measured.dims,
        "threads": measured.threads,
        "boundary": measured.boundary,
        "cpus": os.cpu_count(),
    }
