"""Times PyTorch and ONNX Runtime, interleaved, through pytest-benchmark."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.inputs.cases import fill_inputs
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.assignment import assigned
from pytest_onnxcheck.engine.runtime.session import Session, open_session, torch_device
from pytest_onnxcheck.engine.speed import memory
from pytest_onnxcheck.engine.speed.timing import Rounds, interleave, ratio, summarised
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.manifest import Target
from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.measurement import LatencyMeasurement

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

__all__ = ["KERNEL", "Benchmarks", "Sides", "looks", "measure", "open_sides", "timed"]

#: the fixed kernel: times in units of it are compared between machines and days, so that a change
#: of it needs another name
KERNEL = "numpy einsum 128x128x128 float32, tanh, 4 times; 2"
#: sessions opened where loading has a budget
_LOADS = 5
#: opening and running a session once more takes less than this: memory is measured unasked
_CHEAP_SECONDS = 0.05


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

    def fill(self, rounds: Rounds, info: dict[str, Any]) -> None:
        """Puts the wall times of the first two sides into the entries."""
        for side, backend in enumerate(("torch", "onnxruntime")):
            entry = getattr(self, backend)
            entry.extra_info.update(info, backend=backend)
            entry.stats.stats.data[:] = rounds.samples(side)


def measure(
    artefact: Artefact,
    float_artefact: Artefact,
    reference: Reference,
    target: Target,
    dims: dict[str, int],
    benchmarks: Benchmarks,
    *,
    budget: Budget | None = None,
    baseline: Artefact | None = None,
    decided: Callable[[LatencyMeasurement], bool] = lambda measured: True,
) -> LatencyMeasurement:
    """Measures all sides on the same inputs, from and to the same place, with as many threads.

    They alternate call by call, so that what slows the machine slows all of them, and a speed-up
    is the median over the rounds of the ratio of two times.

    Args:
        artefact: What is measured.
        float_artefact: The fp32 artefact it was made from, measured beside it.
        reference: What it is measured against.
        target: Where the artefact runs; it says where PyTorch does.
        dims: Values of the symbolic dims.
        benchmarks: The pytest-benchmark entries that record the samples.
        budget: What is asked of loading and memory, which are measured better then.
        baseline: An earlier artefact, measured beside it.
        decided: Whether what was measured so far is enough; else it is measured longer, up to
            `latency.longest` seconds.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there.
    """
    latency = reference.model.latency
    asked = budget or Budget()
    try:
        loads = _LOADS if target.name in (asked.max_load_s or {}) else 1
        if latency.cuda_graph and target.device.startswith("cuda"):
            target = target.graphed()
        sides = open_sides(
            artefact, float_artefact, reference, target, baseline=baseline, loads=loads
        )
        timing = _Timing(sides, reference, dims)
        timing.sha256 = artefact.sha256
        if target.name in (asked.max_memory_mb or {}) or timing.cheap:
            timing.memory_bytes = memory.peak(artefact, sides.own, latency.threads, timing.inputs)
            if sides.device.startswith("cuda"):
                timing.device_memory_bytes = memory.device_added(
                    lambda: timing.ran_anew(artefact, target), sides.device
                )
        measured, rounds = timing.run(
            looks(latency.seconds, latency.longest), decided, benchmarks.record
        )
        if target.accelerated:
            ran = assigned(sides.own, artefact, timing.inputs)
            measured = replace(measured, assignment=ran)
    except Exception:
        benchmarks.skip()
        raise
    benchmarks.fill(rounds, _info(reference, artefact, measured))
    return measured


def looks(seconds: float, longest: float) -> list[float]:
    """When to ask whether it is decided: after 1/4, 1/2 and all of `seconds`, 2, 4, ... times it.

    Args:
        seconds: The usual time.
        longest: The last look, unless the usual time is longer.
    """
    times = [seconds / 4, seconds / 2, seconds]
    while 2 * times[-1] < longest:
        times.append(2 * times[-1])
    return [*times, longest] if longest > times[-1] else times


@dataclass(frozen=True)
class Sides:
    """The sessions that are timed against PyTorch.

    Attributes:
        own: The artefact's.
        others: `fp32`: that of the fp32 artefact it was made from, unless it is fp32 itself.
            `baseline`: that of an earlier artefact, where one is named.
        device: torch's device.
        loads: What opening the artefact's session took, each time.
    """

    own: Session
    others: dict[str, Session]
    device: str
    loads: tuple[float, ...]


def open_sides(
    artefact: Artefact,
    float_artefact: Artefact,
    reference: Reference,
    target: Target,
    *,
    baseline: Artefact | None = None,
    loads: int = 1,
) -> Sides:
    """Opens the sessions with the manifest's number of threads.

    Args:
        artefact: What is measured.
        float_artefact: The fp32 artefact it was made from.
        reference: PyTorch.
        target: Where to run it.
        baseline: An earlier artefact.
        loads: How many times to open the artefact.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: An artefact does not load there.
    """
    threads = reference.model.latency.threads
    open_session(artefact, target, threads=threads)  # the child process tries it the first time
    seconds = []
    for _ in range(loads):
        started = time.perf_counter()
        own = open_session(artefact, target, threads=threads)
        seconds.append(time.perf_counter() - started)
    others = {"fp32": float_artefact} if artefact.path != float_artefact.path else {}
    if baseline is not None:
        # it is a file that was given: what of it is float16 is told by its successor
        notes = replace(baseline.notes, narrowed=artefact.notes.narrowed)
        others["baseline"] = replace(baseline, notes=notes)
    sessions = {
        name: open_session(other, target, threads=threads) for name, other in others.items()
    }
    return Sides(own, sessions, torch_device(target), tuple(seconds))


def timed(
    sides: Sides, reference: Reference, dims: dict[str, int], seconds: float
) -> LatencyMeasurement:
    """Times the sessions and PyTorch on the same inputs, in turn.

    Args:
        sides: The sessions.
        reference: PyTorch.
        dims: Values of the symbolic dims.
        seconds: How long.
    """
    return _Timing(sides, reference, dims).run([seconds])[0]


class _Timing:
    """Times the sides: PyTorch, the artefact, the other sessions, the fixed kernel."""

    def __init__(self, sides: Sides, reference: Reference, dims: dict[str, int]) -> None:
        self._sides = sides
        self._reference = reference
        self._dims = dims
        self._threads = reference.model.latency.threads
        asked = reference.model.latency.boundary
        self._on_device = asked == "device" and sides.device.startswith("cuda")
        self.inputs = fill_inputs(reference, dims, "latency", 0)
        self.memory_bytes: int | None = None
        self.device_memory_bytes: int | None = None
        self.sha256 = ""
        self._device = _device_name(sides.own, sides.device)
        self._boundary = "device to device" if self._on_device else "host to host"
        if sides.own.on.is_graphed:
            self._boundary += ", CUDA graph"
        with _running(sides.own, "in its first run"):
            self._calls = [self._call(sides.own)]
            started = time.perf_counter()
            self._calls[0]()
            self._first = time.perf_counter() - started
            for name, session in sides.others.items():
                call = self._baseline if name == "baseline" else self._call
                self._calls.append(call(session))

    @property
    def cheap(self) -> bool:
        """Whether opening and running the artefact once more takes no time to speak of."""
        return statistics.median(self._sides.loads) + self._first < _CHEAP_SECONDS

    def ran_anew(self, artefact: Artefact, target: Target) -> Session:
        """Another session of the artefact, which has run."""
        session = open_session(artefact, target, threads=self._threads)
        with _running(session, "in its first run"):
            self._call(session)()
        return session

    def run(
        self,
        times: list[float],
        decided: Callable[[LatencyMeasurement], bool] = lambda measured: False,
        record: Callable[[Callable[[], None]], None] = lambda run: run(),
    ) -> tuple[LatencyMeasurement, Rounds]:
        """Measures until it is decided.

        Args:
            times: When to look, in seconds.
            decided: Whether what was measured so far is enough.
            record: Calls what it is given, which does all the timing.
        """
        found: list[Rounds] = []
        torch_side = (self._reference, self.inputs, self._sides.device, self._threads)
        with (
            _running(self._sides.own, "while it was timed"),
            _torch_call(*torch_side, self._on_device) as call_torch,
        ):
            calls = [call_torch, *self._calls, _kernel()]
            record(
                lambda: found.append(
                    interleave(calls, times, lambda rounds: decided(self._measured(rounds)))
                )
            )
        for session in (self._sides.own, *self._sides.others.values()):
            session.check_provider("while it was timed")
        return self._measured(found[0]), found[0]

    def _measured(self, rounds: Rounds) -> LatencyMeasurement:
        own, loads = self._sides.own, self._sides.loads
        names = ["torch", "onnxruntime", *self._sides.others, "kernel"]
        accelerated = own.on.accelerated
        waiting = {side for side, name in enumerate(names) if accelerated and name != "kernel"}
        if self._sides.device == "cpu":
            waiting.discard(names.index("torch"))
        timings = {
            name: summarised(
                name,
                rounds.samples(side),
                1 - len(rounds.undisturbed(side, waiting=waiting)) / len(rounds),
            )
            for side, name in enumerate(names)
        }
        alone = not accelerated and self._threads == 1
        ratios = {
            name: ratio(rounds, side, 1, processor=alone, waiting=waiting)
            for side, name in enumerate(names)
            if name != "onnxruntime"
        }
        items = next(iter(self._dims.values()), 1)
        fp32 = ratios.get("fp32")
        return LatencyMeasurement(
            target=own.target,
            provider=own.provider,
            dims=self._dims,
            threads=self._threads,
            boundary=self._boundary,
            torch=timings["torch"],
            onnxruntime=timings["onnxruntime"],
            speedup=ratios["torch"].value,
            load_seconds=statistics.median(loads),
            ratios=ratios,
            fp32=timings.get("fp32"),
            speedup_over_fp32=None if fp32 is None else fp32.value,
            kernel=timings["kernel"],
            baseline=timings.get("baseline"),
            sha256=self.sha256,
            kernel_name=KERNEL,
            waiting=os.environ.get("OMP_WAIT_POLICY"),
            seconds=rounds.seconds,
            load_interval=(min(loads), max(loads)),
            first_seconds=self._first,
            items=items,
            throughput=items / timings["onnxruntime"].median,
            memory_bytes=self.memory_bytes,
            device_memory_bytes=self.device_memory_bytes,
            device=self._device,
        )

    def _call(self, session: Session) -> Callable[[], Any]:
        return bound(session, self.inputs) if self._on_device else session.call(self.inputs)

    def _baseline(self, session: Session) -> Callable[[], Any]:
        """A call of the earlier artefact, which may not take the model's inputs any more."""
        try:
            call = self._call(session)
            if self._on_device:
                call()
            else:
                session.run(self.inputs)
        except Exception as error:
            raise RunError(
                f"the artefact in the model's key `baseline` does not take its inputs: {error}; "
                "name a newer one, or compare with the history (--onnxcheck-accept)"
            ) from error
        return call


@contextmanager
def _running(session: Session, when: str) -> Iterator[None]:
    """Tells what ONNX Runtime, or PyTorch beside it, raises in a bare call."""
    try:
        yield
    except Exception as error:
        # their errors; ours and pytest-benchmark's are not the artefact's fault
        theirs = isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")
        if not theirs:
            raise
        text = " ".join(str(error).split())
        raise RunError(f"{session.target}: failed {when}: {text}") from error


def _device_name(session: Session, device: str) -> str:
    """Which accelerator a session uses, as far as it can be told."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    if not session.on.accelerated:
        return ""
    options = session.on.provider_options
    named = (f"{key}={options[key]}" for key in sorted(options) if key.startswith("device"))
    return " ".join((session.provider, *named))


def bound(session: Session, inputs: Arrays, device: str = "cuda") -> Callable[[], Any]:
    """A call on inputs that lie on a device, whose outputs stay there; not run on a GPU so far.

    All lie where they lay in the first call, as CUDA graphs need it: the binding keeps its outputs.

    Args:
        session: The session.
        inputs: Input name -> array on the host.
        device: ONNX Runtime's name of the kind of device.
    """
    import onnxruntime

    binding = session.handle.io_binding()
    fed = session.cast_inputs(inputs)
    number = int(session.on.provider_options.get("device_id", 0))
    for name in session.inputs:
        value = onnxruntime.OrtValue.ortvalue_from_numpy(fed[name], device, number)
        binding.bind_ortvalue_input(name, value)
    for name in session.outputs:
        binding.bind_output(name, device, number)  # only a run tells how large they are

    def call() -> Any:
        session.handle.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding

    return call


def _kernel() -> Callable[[], Any]:
    """The fixed piece of work: about 1.2 ms of multiply-adds and `tanh` on one thread, no BLAS.

    Shorter ones suffer more than an artefact does from the caches that other processes empty.
    """
    import numpy as np

    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal((128, 128), dtype=np.float32) for _ in range(2))

    def kernel() -> None:
        for _ in range(4):
            np.tanh(np.einsum("ij,jk->ik", left, right, optimize=False))

    return kernel


@contextmanager
def _torch_call(
    reference: Reference, inputs: Arrays, device: str, threads: int, on_device: bool
) -> Iterator[Callable[[], Any]]:
    """A call of PyTorch between the boundaries; threads are set back afterwards."""
    import copy

    import torch

    module = copy.deepcopy(reference.module).to(device)
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    there = {name: tensor.to(device) for name, tensor in tensors.items()} if on_device else {}
    before = torch.get_num_threads()
    torch.set_num_threads(threads)

    def host_to_host() -> list[Any]:
        moved = {name: tensor.to(device) for name, tensor in tensors.items()}
        # copying the outputs to the host waits for the GPU
        return [output.cpu() for output in reference.call(module, moved)]

    def device_to_device() -> None:
        reference.call(module, there)
        torch.cuda.synchronize(device)

    try:
        with torch.inference_mode():
            yield device_to_device if on_device else host_to_host
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
        "speedup": measured.speedup,
        "cpus": os.cpu_count(),
    }
