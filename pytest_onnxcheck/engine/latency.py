"""Times PyTorch and ONNX Runtime, interleaved, through pytest-benchmark."""

from __future__ import annotations

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
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

__all__ = ["Benchmarks", "interleave", "measure"]

_WARM_UP_SECONDS = 0.2
_MIN_PAIRS = 21


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

    def fill(self, measured: LatencyMeasurement, info: dict[str, Any]) -> None:
        """Puts the paired samples into the two entries."""
        for backend in ("torch", "onnxruntime"):
            entry = getattr(self, backend)
            timing: Timing = getattr(measured, backend)
            entry.extra_info.update(info, backend=backend, speedup=measured.speedup)
            entry.stats.stats.data[:] = timing.samples


def measure(
    artefact: Artefact,
    reference: Reference,
    target: str,
    dims: dict[str, int],
    benchmarks: Benchmarks,
) -> LatencyMeasurement:
    """Measures both sides on the same inputs, host to host, with the same number of threads.

    The two alternate call by call, so that what slows the machine slows both, and the speed-up is
    the median over the pairs of the ratio of their times.

    Args:
        artefact: What is measured.
        reference: What it is measured against.
        target: Where the artefact runs; PyTorch runs on the GPU for CUDA targets.
        dims: Values of the symbolic dims.
        benchmarks: The pytest-benchmark entries that record the samples.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there.
    """
    latency = reference.model.latency
    try:
        started = time.perf_counter()
        session = open_session(artefact, target, threads=latency.threads)
        load_seconds = time.perf_counter() - started
        device = torch_device(target)
    except Exception:
        benchmarks.skip()
        raise
    inputs = fill_inputs(reference, dims, "latency", 0)
    samples: list[tuple[float, float]] = []
    call_onnxruntime = session.call(inputs)
    with _torch_call(reference, inputs, device, latency.threads) as call_torch:

        def run() -> None:
            samples.extend(interleave(call_torch, call_onnxruntime, latency.seconds))

        # one round that holds the whole alternating loop: timing one side inside the `setup` of
        # the other reads 12 times slower under coverage
        benchmarks.torch.pedantic(lambda: None, rounds=1)
        benchmarks.onnxruntime.pedantic(run, rounds=1)
    session.check_provider("while it was timed")
    measured = LatencyMeasurement(
        target=target,
        provider=session.provider,
        dims=dims,
        threads=latency.threads,
        boundary="host to host",
        torch=Timing("torch", tuple(pair[0] for pair in samples)),
        onnxruntime=Timing("onnxruntime", tuple(pair[1] for pair in samples)),
        speedup=statistics.median(torch / ort for torch, ort in samples),
        load_seconds=load_seconds,
    )
    benchmarks.fill(measured, _info(reference, artefact, session, measured))
    return measured


def interleave(
    first: Callable[[], Any], second: Callable[[], Any], seconds: float
) -> list[tuple[float, float]]:
    """Times two calls in alternating order (AB BA AB ...) for a while.

    Args:
        first: One call.
        second: The other.
        seconds: How long, after a short warm-up; at least 21 pairs are taken.

    Returns:
        Pairs of seconds, (first, second).
    """
    clock = time.perf_counter
    warm_until = clock() + _WARM_UP_SECONDS
    while True:
        first()
        second()
        if clock() >= warm_until:
            break
    pairs: list[tuple[float, float]] = []
    collecting = gc.isenabled()
    gc.disable()
    try:
        until = clock() + seconds
        while clock() < until or len(pairs) < _MIN_PAIRS:
            if len(pairs) % 2:
                b, a = _timed(second), _timed(first)
            else:
                a, b = _timed(first), _timed(second)
            pairs.append((a, b))
    finally:
        if collecting:
            gc.enable()
    return pairs


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


def _info(
    reference: Reference, artefact: Artefact, session: Session, measured: LatencyMeasurement
) -> dict[str, Any]:
    return {
        "model": reference.model.name,
        "artefact_sha256": artefact.sha256,
        "provider": session.provider,
        "dims": measured.dims,
        "threads": measured.threads,
        "boundary": measured.boundary,
        "cpus": os.cpu_count(),
    }
