"""What takes turns while it is timed: PyTorch, the artefact, what is beside it, a fixed kernel."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.inputs.cases import timed_inputs
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.session import Session, open_session, torch_device
from pytest_onnxcheck.engine.runtime.worker import kernel
from pytest_onnxcheck.engine.speed.timing import Call, Elsewhere
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.manifest import Target
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import numpy as np

    Arrays = dict[str, np.ndarray[Any, Any]]

__all__ = ["KERNEL", "Calls", "Sides", "bound", "device_name", "open_sides"]


#: the fixed kernel (`worker.kernel`): times in units of it are compared between machines and days,
#: so that a change of it needs another name
KERNEL = "numpy einsum 128x128x128 float32, tanh, 4 times; 2"


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
        # nothing is noted of a given file: its successor says which inputs are float16
        notes = replace(baseline.notes, narrowed=artefact.notes.narrowed)
        others["baseline"] = replace(baseline, notes=notes)
    sessions = {
        name: open_session(other, target, threads=threads) for name, other in others.items()
    }
    return Sides(own, sessions, torch_device(target), tuple(seconds))


class Calls:
    """One call of each side on the same inputs, from and to the same place.

    Attributes:
        sides: The sessions.
        names: What the calls are of: `torch`, `onnxruntime` (the artefact), `fp32` and `baseline`
            where there are such, `kernel`.
        dims: Values of the symbolic dims.
        inputs: Input name -> array on the host.
        threads: Of each side.
        boundary: Where inputs lie before a call and outputs after it.
        first_seconds: What the artefact's first run took.
    """

    def __init__(self, sides: Sides, reference: Reference, dims: dict[str, int]) -> None:
        """Makes the calls of the sessions, and runs the artefact for the first time.

        Args:
            sides: The sessions.
            reference: PyTorch.
            dims: Values of the symbolic dims; those asked for where nothing is drawn.

        Raises:
            InputError: Nothing is drawn, and no own case has these sizes.
            RunError: The artefact fails in its first run, or the earlier one does not take the
                inputs.
        """
        self.sides = sides
        self.names = ("torch", "onnxruntime", *sides.others, "kernel")
        self.threads = reference.model.latency.threads
        self.dims, self.inputs = timed_inputs(reference, dims)
        self._reference = reference
        asked = reference.model.latency.boundary
        elsewhere = sides.own.target.elsewhere
        # arrays of another process lie on the host
        self._on_device = asked == "device" and sides.device.startswith("cuda") and not elsewhere
        self.boundary = "device to device" if self._on_device else "host to host"
        if sides.own.target.is_graphed:
            self.boundary += ", CUDA graph"
        with _as_run_error(sides.own, "in its first run"):
            self._sessions = [self._call(sides.own)]
            started = time.perf_counter()
            self._sessions[0]()
            taken = time.perf_counter() - started
            self.first_seconds = sides.own.handle.seconds if elsewhere else taken
            for name, session in sides.others.items():
                call = self._baseline if name == "baseline" else self._call
                self._sessions.append(call(session))

    @property
    def seconds_anew(self) -> float:
        """What opening the artefact and running it once more takes."""
        return statistics.median(self.sides.loads) + self.first_seconds

    def ran_anew(self, artefact: Artefact, target: Target) -> Session:
        """Another session of the artefact, which has run."""
        session = open_session(artefact, target, threads=self.threads)
        with _as_run_error(session, "in its first run"):
            self._call(session)()
        return session

    @contextmanager
    def ready(self) -> Iterator[tuple[list[Call], Elsewhere | None]]:
        """The calls in the order of `names`; PyTorch has its threads for as long as this lasts.

        Where the sessions are in another environment, only PyTorch's is here; the others, the
        kernel too, take turns there, since numpy may be another there.

        Raises:
            RunError: A call failed, or ONNX Runtime fell back to another provider meanwhile.
        """
        with (
            _as_run_error(self.sides.own, "while it was timed"),
            _torch_call(
                self._reference, self.inputs, self.sides.device, self.threads, self._on_device
            ) as call_torch,
        ):
            if self.sides.own.target.elsewhere:
                turns = self._turns()
                try:
                    yield [call_torch], turns
                finally:
                    turns.rest()
            else:
                yield [call_torch, *self._sessions, kernel()], None
        for session in (self.sides.own, *self.sides.others.values()):
            session.check_provider("while it was timed")

    def _turns(self) -> Any:
        """The sessions' calls in another environment."""
        sessions = [self.sides.own, *self.sides.others.values()]
        feeds = [session.cast_inputs(self.inputs) for session in sessions]
        own, *others = (session.handle for session in sessions)
        return own.turns(others, feeds)

    def _call(self, session: Session) -> Call:
        return bound(session, self.inputs) if self._on_device else session.call(self.inputs)

    def _baseline(self, session: Session) -> Call:
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


def device_name(session: Session, device: str) -> str:
    """Which accelerator a session uses, as far as it can be told."""
    if device.startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    if not session.target.accelerated:
        return ""
    options = session.target.provider_options
    named = (f"{key}={options[key]}" for key in sorted(options) if key.startswith("device"))
    return " ".join((session.provider, *named))


def bound(session: Session, inputs: Arrays, device: str = "cuda") -> Call:
    """A call on inputs that lie on a device, whose outputs stay there; not run on a GPU so far.

    All lie where they lay in the first call, as CUDA graphs need it: the binding keeps its outputs.

    Args:
        session: The session.
        inputs: Input name -> array on the host.
        device: ONNX Runtime's name of the kind of device.
    """
    import onnxruntime

    binding = session.handle.io_binding()
    arrays = session.cast_inputs(inputs)
    number = int(session.target.provider_options.get("device_id", 0))
    for name in session.inputs:
        value = onnxruntime.OrtValue.ortvalue_from_numpy(arrays[name], device, number)
        binding.bind_ortvalue_input(name, value)
    for name in session.outputs:
        binding.bind_output(name, device, number)  # only a run tells how large they are

    def call() -> Any:
        session.handle.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding

    return call


@contextmanager
def _torch_call(
    reference: Reference, inputs: Arrays, device: str, threads: int, on_device: bool
) -> Iterator[Call]:
    """A call of PyTorch between the boundaries; threads are set back afterwards."""
    import torch

    module = reference.copy().to(device)
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


@contextmanager
def _as_run_error(session: Session, when: str) -> Iterator[None]:
    """Raises what ONNX Runtime, or PyTorch beside it, raises in a bare call as a RunError."""
    try:
        yield
    except Exception as error:
        # their errors; ours and pytest-benchmark's are not the artefact's fault
        theirs = isinstance(error, RuntimeError) or type(error).__module__.startswith("onnxruntime")
        if not theirs:
            raise
        raise RunError(f"{session.target.name}: failed {when}: {one_line(error)}") from error
