"""Examples of a batch among copies of themselves: whether what stands beside one changes it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.batches import copies
from pytest_onnxcheck.engine.oracle.alike import apart
from pytest_onnxcheck.engine.oracle.expected import Expected
from pytest_onnxcheck.engine.oracle.floor import measure_floor
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rows import Batch, row_errors
from pytest_onnxcheck.engine.runtime.session import Session
from pytest_onnxcheck.errors import InputError, RunError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.sections import Tolerance
from pytest_onnxcheck.measurement import OutputMeasurement, RowMeasurement

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["Alone"]

#: PyTorch's own examples change each other if company makes one another by this share of itself.
_MIXED = 1e-3


class Alone:
    """The suspicious examples of one case, each in a batch of copies of itself; run when needed.

    Without a session they are run by PyTorch only, which tells whether they are examples at all.
    """

    def __init__(
        self,
        session: Session | None,
        oracle: Oracle,
        variant: Variant,
        batch: Batch,
        expected: Expected,
    ) -> None:
        self._session = session
        self._oracle = oracle
        self._variant = variant
        self._batch = batch
        self._expected = expected
        self._runs: dict[int, tuple[Expected, list[Array] | None] | None] = {}

    def measured(self, output: OutputMeasurement) -> OutputMeasurement:
        """Adds to suspicious examples what they are alone.

        Drops what was measured of examples where PyTorch's own change each other, as the steps of
        a sequence do, or where that cannot be seen.
        """
        rows = [self._row(output.name, row) for row in output.rows]
        output = dataclasses.replace(output, rows=tuple(row for row in rows if row is not None))
        if output.floor is None or output.floor.row is None:
            return output
        row = self._row(output.name, output.floor.row)
        return dataclasses.replace(output, floor=dataclasses.replace(output.floor, row=row))

    def _row(self, name: str, row: RowMeasurement) -> RowMeasurement | None:
        if _passes(row, self._variant.tolerance):
            return row
        if row.index not in self._runs:
            self._runs[row.index] = self._run(row.index)
        found = self._runs[row.index]
        if found is None:
            return None
        expected, outputs = found
        place = list(self._oracle.reference.model.outputs).index(name)
        own, beside = expected.outputs[place], self._expected.outputs[place]
        if own.shape != beside.shape or apart(own[0], beside[row.index]) > _MIXED:
            return None
        if outputs is None:
            return row
        actual = outputs[place]
        if actual.shape != own.shape:
            return None
        if row.metric != "floors":
            alone = {entry.metric: entry.value for entry in row_errors(self._batch, own, actual)}
            return dataclasses.replace(row, alone=alone.get(row.metric))
        safety = self._variant.tolerance.floors
        usual = self._oracle.usual_magnitude(place) * float(self._batch.share[row.index])
        floor = measure_floor(expected, place, actual, self._variant.precision, safety, usual)
        return dataclasses.replace(row, alone=floor.ratio)

    def _run(self, index: int) -> tuple[Expected, list[Array] | None] | None:
        """What PyTorch and the artefact give; None where one of them does not run."""
        oracle, session = self._oracle, self._session
        case = copies(oracle.reference, self._expected.case, self._batch.dim, index)
        try:
            expected = oracle.expected(case)
            oracle.forget(case)
            if session is None:
                return expected, None
            outputs = dict(zip(session.outputs, session.run(case.inputs), strict=True))
        except (InputError, RunError):
            return None
        return expected, [outputs[name] for name in oracle.reference.model.outputs]


def _passes(row: RowMeasurement, tolerance: Tolerance) -> bool:
    """Whether no judge would fail or warn of it."""
    if row.metric == "floors":
        return row.value <= tolerance.floors
    return all(tolerance.passes(metric, value) for metric, value in row.values)
