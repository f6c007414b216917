"""Runs the sizes of each dim on PyTorch and on the artefact; a part of the equivalence check.

Shapes and errors are looked at of every size. So are values where thresholds are what they are held
to. Where it is the noise floor, which takes more runs, they are compared with PyTorch's float32
first, and in full only where they are further off than floors at other sizes allow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.checks.case import compare_outputs
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.inputs.probes import element_count
from pytest_onnxcheck.engine.inputs.sizes import PlannedSweep, plan_sweeps
from pytest_onnxcheck.engine.inputs.skips import is_skipped
from pytest_onnxcheck.engine.oracle.alike import distance
from pytest_onnxcheck.engine.oracle.expected import Expected
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rows import Batch, batch_of
from pytest_onnxcheck.engine.runtime.session import Session
from pytest_onnxcheck.errors import InputError, RunError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.targets import CPU
from pytest_onnxcheck.measurement import CaseMeasurement, OutputMeasurement, SweepMeasurement

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["run_sweeps"]

#: What PyTorch gives at a size is kept for the other variants up to this many bytes: a few
#: thousand sizes are a hundred megabytes at most.
_KEPT_BYTES = 2**16

#: Sizes of a dim whose values are off, at most; then the sweep ends. Each takes many runs.
_MOST_OFF = 24

#: What is taken of the lowest floor of draws where nothing is known of sizes nearby: the floor may
#: be lower there, and PyTorch's own error is not in what the two are apart.
_WARY = 0.5

#: sizes up to this many times as large, or as small, have floors that are alike
_NEAR = 1.25


def run_sweeps(
    session: Session, oracle: Oracle, variant: Variant, declared: list[CaseMeasurement]
) -> tuple[list[SweepMeasurement], list[CaseMeasurement]]:
    """Runs every dim over its sizes, as many as the manifest's time allows.

    Args:
        session: Runs the artefact.
        oracle: What the model should give.
        variant: The variant the artefact belongs to; values are compared where it is probed.
        declared: What the cases measured that were run before.

    Returns:
        What was run of each dim, and the cases in which the artefact fails, or gives another shape
        or values that are off.
    """
    if session.provider != CPU.provider:  # others compile each size anew, or are written in Python
        return [], []
    planned = plan_sweeps(oracle.reference, _seconds(oracle))
    drawn = {case.name for case in oracle.declared if not case.given}
    least = _least([case for case in declared if case.case in drawn], oracle)
    runs = [_Run(session, oracle, variant, sweep, least) for sweep in planned]
    return [run.measure() for run in runs], [case for run in runs for case in run.off]


def _seconds(oracle: Oracle) -> Callable[[int], float]:
    """What a run costs, by its elements: on the line through the smallest and the largest case."""

    def elements(case: Case) -> int:
        return max(1, element_count((array.shape for array in case.inputs.values()), {}))

    small, large = (choose(oracle.declared, key=elements) for choose in (min, max))
    low, high = (oracle.expected(case).cost.seconds for case in (small, large))
    apart = elements(large) - elements(small)
    slope = (high - low) / apart if apart else low / elements(small)
    start = low - slope * elements(small)
    return lambda number: max(low, start + slope * number)


@dataclasses.dataclass(frozen=True)
class _Floor:
    """How far rounding moves an output, its worst element and on the whole, as shares of it."""

    worst: float = 0.0
    rms: float = 0.0

    @classmethod
    def of(cls, output: OutputMeasurement, usual: float) -> _Floor | None:
        """What was measured of an output that usually is as large; None where nothing was."""
        size = max(output.scale, usual)
        if output.floor is None or not size:
            return None
        return cls(output.floor.floor_worst / size, output.floor.floor_rms / size)


def _least(drawn: list[CaseMeasurement], oracle: Oracle) -> dict[str, _Floor]:
    """Output -> the lowest floor among draws: what one ill-conditioned case has is no measure."""
    found: dict[str, list[_Floor]] = {}
    for index, name in enumerate(oracle.reference.model.outputs):
        usual = oracle.usual_magnitude(index)
        for output in (output for case in drawn for output in case.outputs if output.name == name):
            if (floor := _Floor.of(output, usual)) is not None:
                found.setdefault(name, []).append(floor)
    return {
        name: _Floor(min(floor.worst for floor in floors), min(floor.rms for floor in floors))
        for name, floors in found.items()
    }


class _Run:
    """One dim's sizes, one after the other.

    Attributes:
        off: The cases that are off; what PyTorch gave in them is kept, to diagnose them.
    """

    def __init__(
        self,
        session: Session,
        oracle: Oracle,
        variant: Variant,
        sweep: PlannedSweep,
        least: dict[str, _Floor],
    ) -> None:
        self._session = session
        self._oracle = oracle
        self._variant = variant
        self._sweep = sweep
        self._least = least
        self._learned: dict[str, dict[int, _Floor]] = {}
        self._probed = not oracle.unprobed(variant)
        self._perturbed_runs = 0
        self.off: list[CaseMeasurement] = []

    def measure(self) -> SweepMeasurement:
        """Runs them, and says which were run."""
        sweep, model = self._sweep, self._oracle.reference.model
        ran: list[int] = []
        refused = costly = stopped = skipped = 0
        for size, probe in sweep.probes.items():
            if is_skipped(model, probe.name):
                skipped += 1
                continue
            if costly == _MOST_OFF:
                stopped = len(self.off)
                break
            try:
                case = probe.case(self._oracle.reference)
                expected = self._oracle.expected(case)
            except InputError:  # PyTorch refuses it, or the examples of a file do not fit
                refused += 1
                continue
            ran.append(size)
            found = self._measured(expected, size)
            if found is None or not self._is_off(found):
                if expected.size_bytes > _KEPT_BYTES:
                    self._oracle.forget(case)
                continue
            self.off.append(dataclasses.replace(found, dim=sweep.dim, size=size))
            costly += any(output.floor is not None for output in found.outputs)
        return SweepMeasurement(
            sweep.dim,
            sweep.sizes[0],
            sweep.sizes[-1],
            sweep.sizes.step,
            tuple(sorted(ran)),
            refused,
            ranged=sweep.dim in model.spans,
            stopped=stopped,
            perturbed_runs=self._perturbed_runs,
            skipped=skipped,
        )

    def _measured(self, expected: Expected, size: int) -> CaseMeasurement | None:
        """What a size measures; None where a look at the values shows nothing."""
        session, oracle, variant, case = self._session, self._oracle, self._variant, expected.case
        try:
            outputs = session.run(case.inputs)
        except RunError as error:
            return compare_outputs(oracle, variant, case, expected, str(error))
        actual = dict(zip(session.outputs, outputs, strict=True))
        by_thresholds = self._probed and variant.tolerance.policy == "fixed"
        if not by_thresholds and not self._may_differ(expected, actual, size):
            return None
        found = compare_outputs(oracle, variant, case, expected, actual, session)
        self._perturbed_runs += found.perturbed_runs
        for index, output in enumerate(found.outputs):
            floor = _Floor.of(output, oracle.usual_magnitude(index))
            if floor is not None:
                self._learned.setdefault(output.name, {})[size] = floor
        return found

    def _may_differ(self, expected: Expected, found: dict[str, Array], size: int) -> bool:
        """Whether a full comparison is worth its while."""
        names = list(self._oracle.reference.model.outputs)
        if set(found) != set(names):
            return True
        batch = batch_of(self._oracle.reference, expected.case) if self._probed else None
        return any(
            self._apart(
                expected.outputs[index],
                found[name],
                self._floor(name, size),
                self._oracle.usual_magnitude(index),
                batch if batch is not None and name in batch.outputs else None,
            )
            for index, name in enumerate(names)
        )

    def _floor(self, name: str, size: int) -> _Floor:
        """The highest floor measured near a size; elsewhere a part of the lowest of draws."""
        known = [
            floor
            for other, floor in self._learned.get(name, {}).items()
            if max(size, other) <= _NEAR * min(size, other)
        ]
        least = self._least.get(name, _Floor())
        known.append(_Floor(_WARY * least.worst, _WARY * least.rms))
        return _Floor(max(floor.worst for floor in known), max(floor.rms for floor in known))

    def _apart(
        self, own: Array, found: Array, floor: _Floor, usual: float, batch: Batch | None
    ) -> bool:
        """Whether an output may be further off than is allowed."""
        import numpy as np

        if own.shape != found.shape or own.dtype != found.dtype:
            return True
        if not self._probed:
            return False
        if own.dtype.kind != "f":
            return not np.array_equal(own, found)
        finite = np.isfinite(own)
        if not np.array_equal(finite, np.isfinite(found)):
            return True
        apart = distance(own, found, finite)
        if not apart.any():
            return False
        sizes = np.where(finite, np.abs(own), 0.0)
        scale = max(float(sizes.max(initial=0.0)), usual)
        allowed = self._variant.tolerance.floors * scale
        rms = float(np.linalg.norm(apart)) / max(1, int(finite.sum())) ** 0.5
        if rms > allowed * floor.rms:
            return True
        if batch is not None and batch.quiet.any():  # each is held to its own magnitude
            beside = sizes.reshape(len(batch.share), -1).max(1, initial=0.0) / scale
            share = np.maximum(beside, batch.share)
            worst = apart.reshape(len(share), -1).max(1, initial=0.0)
            return bool((worst > allowed * floor.worst * np.where(batch.quiet, share, 1)).any())
        return bool(apart.max(initial=0.0) > allowed * floor.worst)

    def _is_off(self, found: CaseMeasurement) -> bool:
        """Whether a size is worth judging."""
        return bool(found.error) or any(map(self._output_off, found.outputs))

    def _output_off(self, output: OutputMeasurement) -> bool:
        if output.expected_shape != output.actual_shape:
            return True
        if output.expected_dtype != output.actual_dtype or not self._probed:
            return False  # at every size alike
        floor = output.floor
        if floor is None:
            return "float" not in output.expected_dtype and output.differing > output.tied
        return floor.farthest > self._variant.tolerance.floors or floor.nonfinite > 0
