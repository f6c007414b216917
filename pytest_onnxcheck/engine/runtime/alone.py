"""Examples of a batch among copies of themselves: whether what stands beside one changes it."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.oracle.expected import Expected
from pytest_onnxcheck.engine.oracle.floor import measure_floor
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rows import Batch, copies, row_errors
from pytest_onnxcheck.engine.runtime.session import Session
from pytest_onnxcheck.errors import InputError, RunError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.sections import Bounds, Tolerance
from pytest_onnxcheck.measurement import OutputMeasurement, RowMeasurement

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["Alone"]

#: PyTorch's own examples change each other if company makes one another by this share of itself.
_MIXED = 1e-3


class Alone:
    """The suspicious examples of one case, each in a batch of copies of itself; run when needed."""

    def __init__(
        self, session: Session, oracle: Oracle, variant: Variant, batch: Batch, expected: Expected
    ) -> None:
        self._session = session
        self._oracle = oracle
        self._variant = variant
        self._batch = batch
        self._expected = expected
        self._runs: dict[int, tuple[Expected, list[Array]] | None] = {}

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
        if not _suspicious(row, self._variant.tolerance):
            return row
        if row.index not in self._runs:
            self._runs[row.index] = self._run(row.index)
        found = self._runs[row.index]
        if found is None:
            return None
        expected, outputs = found
        place = list(self._oracle.reference.model.outputs).index(name)
        own, actual = expected.outputs[place], outputs[place]
        beside = self._expected.outputs[place]
        if not own.shape == actual.shape == beside.shape or _apart(beside[row.index], own[0]):
            return None
        if row.metric != "floors":
            alone = {entry.metric: entry.value for entry in row_errors(self._batch, own, actual)}
            return dataclasses.replace(row, alone=alone.get(row.metric))
        safety = self._variant.tolerance.safety
        assert safety is not None
        usual = self._oracle.usual_magnitude(place) * float(self._batch.share[row.index])
        floor = measure_floor(expected, place, actual, self._variant.precision, safety, usual)
        return dataclasses.replace(row, alone=floor.ratio)

    def _run(self, index: int) -> tuple[Expected, list[Array]] | None:
        """What PyTorch and the artefact give; None where one of them does not run."""
        reference = self._oracle.reference
        case = copies(reference, self._batch, self._expected.case, index)
        try:
            expected = Expected(self._oracle, case, reference.run(case.inputs))
            outputs = dict(zip(self._session.outputs, self._session.run(case.inputs), strict=True))
        except (InputError, RunError):
            return None
        return expected, [outputs[name] for name in reference.model.outputs]


def _suspicious(row: RowMeasurement, tolerance: Tolerance) -> bool:
    """Whether a judge might fail or warn of it."""
    if row.metric == "floors":
        return tolerance.safety is not None and row.value > tolerance.safety
    if row.metric == "cosine":
        return isinstance(tolerance.cosine, Bounds) and row.value < tolerance.cosine.passes
    limits = [tolerance.rel_rms.passes] if isinstance(tolerance.rel_rms, Bounds) else []
    if isinstance(tolerance.sqnr_db, Bounds):
        limits.append(10 ** (-tolerance.sqnr_db.passes / 20))
    return any(row.value > limit for limit in limits)


def _apart(company: Array, own: Array) -> bool:
    """Whether an example of PyTorch's is another among copies of itself."""
    import numpy as np

    finite = np.isfinite(company) & np.isfinite(own)
    if not finite.any():
        return False
    apart = np.abs(company[finite].astype(np.float64) - own[finite]).max()
    return bool(apart > _MIXED * np.abs(own[finite]).max())
