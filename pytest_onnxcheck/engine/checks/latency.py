"""Times PyTorch and ONNX Runtime, interleaved, until it is decided."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.transfer import transferred_bytes
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.assignment import assigned
from pytest_onnxcheck.engine.runtime.nodejs import KERNEL as JAVASCRIPT_KERNEL
from pytest_onnxcheck.engine.speed import memory
from pytest_onnxcheck.engine.speed.sides import KERNEL, Calls, Sides, device_name, open_sides
from pytest_onnxcheck.engine.speed.timing import Rounds, interleave, ratio, summarised
from pytest_onnxcheck.manifest import Target
from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.manifest.targets import WEB
from pytest_onnxcheck.measurement import LatencyMeasurement, Ratio, Timing

__all__ = ["decision_times", "measure", "timed"]

#: sessions opened where loading has a budget
_LOADS = 5
#: opening and running a session once more takes less than this: memory is measured unasked
_CHEAP_SECONDS = 0.05


def measure(
    artefact: Artefact,
    float_artefact: Artefact,
    reference: Reference,
    target: Target,
    dims: dict[str, int],
    *,
    budget: Budget | None = None,
    baseline: Artefact | None = None,
    decided: Callable[[LatencyMeasurement], bool] = lambda measured: True,
    record: Callable[[Callable[[], None]], None] = lambda run: run(),
) -> tuple[LatencyMeasurement, Rounds]:
    """Measures all sides on the same inputs, from and to the same place, with as many threads.

    They alternate call by call, so that what slows the machine slows all of them, and a speed-up
    is the median over the rounds of the ratio of two times.

    Args:
        artefact: What is measured.
        float_artefact: The fp32 artefact it was made from, measured beside it.
        reference: What it is measured against.
        target: Where the artefact runs; it says where PyTorch does.
        dims: Values of the symbolic dims.
        budget: What is asked of loading and memory, which are measured better then.
        baseline: An earlier artefact, measured beside it.
        decided: Whether what was measured so far is enough; else it is measured longer, up to
            `latency.longest` seconds.
        record: Calls what it is given, which does all the timing.

    Returns:
        The measurement, and the rounds it is made of: PyTorch's times first, then the artefact's.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there.
    """
    latency = reference.model.latency
    asked = budget or Budget()
    loads = _LOADS if target.name in (asked.max_load_s or {}) else 1
    if latency.cuda_graph and target.device.startswith("cuda"):
        target = target.graphed()
    sides = open_sides(artefact, float_artefact, reference, target, baseline=baseline, loads=loads)
    calls = Calls(sides, reference, dims)
    host = device = None
    if target.name in (asked.max_memory_mb or {}) or calls.seconds_anew < _CHEAP_SECONDS:
        host, device = _memory(calls, artefact, target)
    timing = _Timing(calls, artefact.sha256, host, device)
    times = decision_times(latency.seconds, latency.longest)
    measured, rounds = timing.run(times, decided, record)
    if target.accelerated and not target.runtime:  # it is not told in JavaScript
        measured = replace(measured, assignment=assigned(sides.own, artefact, calls.inputs))
    if target.runtime == WEB:
        measured = replace(measured, transferred_bytes=transferred_bytes(Path(artefact.path)))
    return measured, rounds


def decision_times(seconds: float, longest: float) -> list[float]:
    """When to ask whether it is decided: after 1/4, 1/2 and all of `seconds`, 2, 4, ... times it.

    Args:
        seconds: The usual time.
        longest: The last time to ask, unless the usual time is longer.
    """
    times = [seconds / 4, seconds / 2, seconds]
    while 2 * times[-1] < longest:
        times.append(2 * times[-1])
    return [*times, longest] if longest > times[-1] else times


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
    return _Timing(Calls(sides, reference, dims)).run([seconds])[0]


def _memory(calls: Calls, artefact: Artefact, target: Target) -> tuple[int | None, int | None]:
    """Bytes that a session and one run add to the host's memory, and to the GPU's."""
    own, device = calls.sides.own, calls.sides.device
    host = memory.peak(artefact, own, calls.threads, calls.inputs)
    if not device.startswith("cuda"):
        return host, None
    return host, memory.device_added(lambda: calls.ran_anew(artefact, target), device)


@dataclass(frozen=True)
class _Timing:
    """Times the calls of the sides, and says what was measured.

    Attributes:
        calls: The calls.
        sha256: The artefact's.
        memory_bytes: What a session and one run add to the host's memory, where it was measured.
        device_memory_bytes: The same of a GPU's memory.
    """

    calls: Calls
    sha256: str = ""
    memory_bytes: int | None = None
    device_memory_bytes: int | None = None

    def run(
        self,
        times: list[float],
        decided: Callable[[LatencyMeasurement], bool] = lambda measured: False,
        record: Callable[[Callable[[], None]], None] = lambda run: run(),
    ) -> tuple[LatencyMeasurement, Rounds]:
        """Measures until it is decided.

        Args:
            times: When to ask whether it is decided, in seconds.
            decided: Whether what was measured so far is enough.
            record: Calls what it is given, which does all the timing.
        """
        found: list[Rounds] = []
        with self.calls.ready() as (calls, elsewhere):
            record(
                lambda: found.append(
                    interleave(
                        calls, times, lambda rounds: decided(self._measured(rounds)), elsewhere
                    )
                )
            )
        return self._measured(found[0]), found[0]

    def _measured(self, rounds: Rounds) -> LatencyMeasurement:
        own, loads = self.calls.sides.own, self.calls.sides.loads
        timings = self._timings(rounds)
        return LatencyMeasurement(
            target=own.target.name,
            provider=own.provider,
            dims=self.calls.dims,
            threads=self.calls.threads,
            boundary=self.calls.boundary,
            torch=timings["torch"],
            onnxruntime=timings["onnxruntime"],
            load_seconds=statistics.median(loads),
            ratios=self._ratios(rounds),
            fp32=timings.get("fp32"),
            kernel=timings["kernel"],
            baseline=timings.get("baseline"),
            sha256=self.sha256,
            kernel_name=JAVASCRIPT_KERNEL if own.target.runtime else KERNEL,
            waiting=os.environ.get("OMP_WAIT_POLICY"),
            seconds=rounds.seconds,
            load_interval=(min(loads), max(loads)),
            first_seconds=self.calls.first_seconds,
            items=next(iter(self.calls.dims.values()), 1) or 1,
            memory_bytes=self.memory_bytes,
            device_memory_bytes=self.device_memory_bytes,
            device=device_name(own, self.calls.sides.device),
        )

    def _timings(self, rounds: Rounds) -> dict[str, Timing]:
        """The sides' times by name."""
        waiting = self._waiting()
        return {
            name: summarised(
                name,
                rounds.samples(side),
                1 - len(rounds.undisturbed(side, waiting=waiting)) / len(rounds),
            )
            for side, name in enumerate(self.calls.names)
        }

    def _ratios(self, rounds: Rounds) -> dict[str, Ratio]:
        """How many times as long as the artefact the other sides take, by name."""
        names, waiting = self.calls.names, self._waiting()
        target = self.calls.sides.own.target
        # a page is not told the processor's time
        alone = not target.accelerated and self.calls.threads == 1 and not target.browser
        own = names.index("onnxruntime")
        return {
            name: ratio(rounds, side, own, processor=alone, waiting=waiting)
            for side, name in enumerate(names)
            if side != own
        }

    def _waiting(self) -> set[int]:
        """The sides that may wait for an accelerator."""
        if not self.calls.sides.own.target.accelerated:
            return set()
        at_work = {"kernel", "torch"} if self.calls.sides.device == "cpu" else {"kernel"}
        return {side for side, name in enumerate(self.calls.names) if name not in at_work}
