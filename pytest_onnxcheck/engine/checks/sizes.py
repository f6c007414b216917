"""Runs the sizes of each dim on PyTorch and on the artefact; a part of the equivalence check.

Shapes and errors are looked at of every size. Values are compared with PyTorch's float32 first, and
only where they are further off than in the declared cases with the noise floor, which takes more
runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.inputs.sizes import Sweep, sweeps
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.runtime.opening import printed
from pytest_onnxcheck.engine.runtime.session import Session
from pytest_onnxcheck.errors import InputError, RunError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.targets import CPU
from pytest_onnxcheck.measurement import CaseMeasurement, OutputMeasurement, SweepMeasurement

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["swept"]

#: Sizes of a dim whose values are off, at most; then the sweep ends. Each takes many runs.
_MOST_OFF = 24

#: how much further off than before values may be without a look at their floor
_USUAL = 2.0

Measure = Callable[[Case], CaseMeasurement | None]


def swept(
    session: Session,
    oracle: Oracle,
    variant: Variant,
    declared: list[CaseMeasurement],
    measure: Measure,
) -> tuple[list[SweepMeasurement], list[CaseMeasurement]]:
    """Runs every dim over its sizes, as many as the manifest's time allows.

    Args:
        session: Runs the artefact.
        oracle: What the model should give.
        variant: The variant the artefact belongs to; values are compared where it is probed.
        declared: What the cases measured that were run before.
        measure: Compares a case in full.

    Returns:
        What was run of each dim, and the cases in which the artefact fails, or gives another shape
        or values that are off.
    """
    if session.provider != CPU.provider:  # others compile each size anew, or are written in Python
        return [], []
    planned = sweeps(oracle.reference, _seconds(oracle))
    safety = None if oracle.unprobed(variant) else variant.tolerance.floors
    runner = _Runner(session, oracle, safety, _usual(declared, safety), measure)
    found = [runner.run(sweep) for sweep in planned]
    return [sweep for sweep, _ in found], [case for _, cases in found for case in cases]


def _seconds(oracle: Oracle) -> Callable[[int], float]:
    """What a run costs, by its elements: on the line through the smallest and the largest case."""

    def elements(case: Case) -> int:
        return max(1, sum(array.size for array in case.inputs.values()))

    small, large = (choose(oracle.declared, key=elements) for choose in (min, max))
    low, high = (oracle.expected(case).cost.seconds for case in (small, large))
    apart = elements(large) - elements(small)
    slope = (high - low) / apart if apart else low / elements(small)
    start = low - slope * elements(small)
    return lambda number: max(low, start + slope * number)


def _usual(declared: list[CaseMeasurement], safety: float | None) -> dict[str, float]:
    """Output -> how far off it is in the cases of the manifest in which it is right."""
    usual: dict[str, float] = {}
    for case in declared:
        for output in () if case.probe or case.lenient or case.overflowed else case.outputs:
            floor = output.floor
            if floor is not None and safety is not None and floor.ratio <= safety:
                usual[output.name] = max(usual.get(output.name, 0.0), output.max_abs or 0.0)
    return usual


class _Runner:
    """Runs sizes, and learns how far off values usually are."""

    def __init__(
        self,
        session: Session,
        oracle: Oracle,
        safety: float | None,
        usual: dict[str, float],
        measure: Measure,
    ) -> None:
        self._session = session
        self._oracle = oracle
        self._safety = safety
        self._usual = usual
        self._measure = measure

    def run(self, sweep: Sweep) -> tuple[SweepMeasurement, list[CaseMeasurement]]:
        """One dim: what was run, and the cases that are off."""
        ran, refused, off = [], 0, 0
        cases = []
        for size, probe in sweep.probes.items():
            try:
                with printed():  # ONNX Runtime prints what it also raises
                    found = self._case(probe.case(self._oracle.reference))
            except InputError:  # PyTorch refuses it, or the examples of a file do not fit
                refused += 1
                continue
            ran.append(size)
            if found is not None:
                cases.append(dataclasses.replace(found, dim=sweep.dim, size=size))
                off += any(output.floor is not None for output in found.outputs)
            if off == _MOST_OFF:
                break
        model, sizes = self._oracle.reference.model, sweep.sizes
        measured = SweepMeasurement(
            sweep.dim,
            sizes[0],
            sizes[-1],
            sizes.step,
            tuple(sorted(ran)),
            refused,
            ranged=sweep.dim in model.spans,
        )
        return measured, cases

    def _case(self, case: Case) -> CaseMeasurement | None:
        """What a case measures where it is off; then what PyTorch gave is kept, to diagnose it.

        Raises:
            InputError: PyTorch itself does not take it.
        """
        expected = self._oracle.expected(case).outputs
        if not self._suspicious(expected, case):
            self._oracle.forget(case)
            return None
        found = self._measure(case)
        if found is None or not (found.error or any(map(self._off, found.outputs))):
            self._oracle.forget(case)
            return None
        return found

    def _suspicious(self, expected: list[Array], case: Case) -> bool:
        try:
            outputs = dict(zip(self._session.outputs, self._session.run(case.inputs), strict=True))
        except RunError:
            return True
        names = list(self._oracle.reference.model.outputs)
        if set(outputs) != set(names):
            return True
        return any(
            self._further_off(name, own, outputs[name])
            for name, own in zip(names, expected, strict=True)
        )

    def _further_off(self, name: str, own: Array, found: Array) -> bool:
        import numpy as np

        if own.shape != found.shape or own.dtype != found.dtype:
            return True
        if self._safety is None:
            return False
        if own.dtype.kind != "f":
            return not np.array_equal(own, found)
        finite = np.isfinite(own)
        if not np.array_equal(finite, np.isfinite(found)):
            return True
        apart = np.abs(own[finite] - found[finite]).max(initial=0.0)
        return bool(apart > _USUAL * self._usual.get(name, 0.0))

    def _off(self, output: OutputMeasurement) -> bool:
        """Whether an output is worth judging; where it is not, its error is usual from now on."""
        if output.expected_shape != output.actual_shape:
            return True
        if output.expected_dtype != output.actual_dtype or self._safety is None:
            return False  # at every size alike
        floor = output.floor
        if floor is None and "float" not in output.expected_dtype:
            return output.differing > output.tied
        if floor is not None and (floor.ratio > self._safety or floor.nonfinite):
            return True
        self._usual[output.name] = max(self._usual.get(output.name, 0.0), output.max_abs or 0.0)
        return False
