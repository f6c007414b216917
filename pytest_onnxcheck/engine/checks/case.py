"""One case on PyTorch and on the artefact: how every output differs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.checks.alone import Alone
from pytest_onnxcheck.engine.inputs import masks
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.alike import nonfinite_kinds
from pytest_onnxcheck.engine.oracle.compare import compare
from pytest_onnxcheck.engine.oracle.expected import Expected
from pytest_onnxcheck.engine.oracle.floor import measure_floor, tied_elements
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rows import Batch, batch_of, row_errors
from pytest_onnxcheck.engine.runtime.session import Session
from pytest_onnxcheck.errors import InputError, RunError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.sections import METRICS, Tolerance
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    EmptyRows,
    OutputMeasurement,
)

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["compare_outputs", "measure_against", "measure_case"]

#: an error that is this part of an output may be float32's rounding, where no floor is measured
_ROUNDED = 2.0**-18


def measure_case(
    session: Session, oracle: Oracle, variant: Variant, case: Case
) -> CaseMeasurement | None:
    """Compares one case; None for a probe that PyTorch itself does not take.

    Raises:
        InputError: PyTorch itself does not run on a declared case.
    """
    try:
        expected = oracle.expected(case)
    except InputError:
        if case.probe:
            return None
        raise
    return measure_against(session, oracle, variant, case, expected)


def measure_against(
    session: Session, oracle: Oracle, variant: Variant, case: Case, expected: Expected
) -> CaseMeasurement:
    """Compares one case with what it should give; that it does not run is measured too."""
    try:
        outputs = session.run(case.inputs)
    except RunError as error:
        return compare_outputs(oracle, variant, case, expected, str(error))
    actual = dict(zip(session.outputs, outputs, strict=True))
    return compare_outputs(oracle, variant, case, expected, actual, session)


def compare_outputs(
    oracle: Oracle,
    variant: Variant,
    case: Case,
    expected: Expected,
    actual: dict[str, Array] | str,
    session: Session | None = None,
) -> CaseMeasurement:
    """Compares what an artefact gave, and the examples of a batch each by itself.

    Args:
        oracle: What the model should give.
        variant: The variant the artefact belongs to.
        case: What it was given.
        expected: What the case should give.
        actual: The outputs by name; in place of them, why there are none.
        session: What gave them, to run suspicious examples again; None where it was no session.
    """
    declared = oracle.reference.model.outputs
    measured = CaseMeasurement(
        case.name,
        lenient=case.lenient or None,
        probe=case.probe,
        empty_rows=tuple(_empty_rows(oracle, case)),
        whole_rows=tuple(masks.whole_rows(oracle.reference.model.inputs, case.inputs)),
        odd_mask=case.odd_mask,
    )
    if isinstance(actual, str):
        return dataclasses.replace(measured, error=actual)
    if set(actual) != set(declared):
        text = f"the artefact gives outputs {list(actual)}, declared {list(declared)}"
        return dataclasses.replace(measured, error=text)
    batch = batch_of(oracle.reference, case)
    outputs = list(_outputs(oracle, variant, expected, actual, batch))
    outputs = list(_swaps(outputs, expected, actual, variant.tolerance.floors))
    if batch is not None:
        alone = Alone(session, oracle, variant, batch, expected)
        outputs = [alone.measured(output) for output in outputs]
    return dataclasses.replace(measured, outputs=tuple(outputs))


def _empty_rows(oracle: Oracle, case: Case) -> Iterator[EmptyRows]:
    inputs = oracle.reference.model.inputs
    for name in masks.empty_rows(inputs, case.inputs):
        mask = inputs[name].fill == "mask"
        if mask or not case.given:  # whoever gives zeros knows what they are
            yield EmptyRows(name, mask, inputs[name].empty_rows)


def _has_nan(array: Array) -> bool:
    import numpy as np

    return array.dtype.kind == "f" and bool(np.isnan(array).any())


def _undefined(oracle: Oracle, expected: Expected, index: int) -> bool:
    """Whether a probe leads PyTorch to NaN or infinity that an ordinary case does not have."""
    import numpy as np

    case, own = expected.case, expected.outputs[index]
    inputs = [array for array in case.inputs.values() if array.dtype.kind == "f"]
    if not case.probe or own.dtype.kind != "f" or not all(np.isfinite(a).all() for a in inputs):
        return False
    usual = oracle.usual(index)
    return not set(np.unique(nonfinite_kinds(own))) <= {0, *np.unique(nonfinite_kinds(usual))}


def _outputs(
    oracle: Oracle,
    variant: Variant,
    expected: Expected,
    actual: dict[str, Array],
    batch: Batch | None,
) -> Iterator[OutputMeasurement]:
    tolerance, probe = variant.tolerance, expected.case.probe
    for index, (name, declared) in enumerate(oracle.reference.model.outputs.items()):
        own, found = expected.outputs[index], actual[name]
        measured = dataclasses.replace(
            compare(name, declared, own, found, tolerance),
            undefined=_undefined(oracle, expected, index),
            given_nan=any(_has_nan(array) for array in expected.case.inputs.values()),
        )
        comparable = own.shape == found.shape and own.size and own.dtype == found.dtype
        rows = batch if batch is not None and name in batch.outputs else None
        if rows is not None and comparable and own.dtype.kind == "f":
            measured = dataclasses.replace(measured, rows=tuple(row_errors(rows, own, found)))
        beyond = probe and _beyond_thresholds(measured, tolerance)
        if not comparable or not variant.traits.noise_floor:
            yield measured
        elif own.dtype.kind != "f" and measured.differing:
            tied, margin = tied_elements(expected, index, found, variant.precision)
            yield dataclasses.replace(measured, tied=tied, margin=margin)
        elif own.dtype.kind == "f" and (tolerance.policy == "noise-floor" or beyond):
            floor = measure_floor(
                expected,
                index,
                found,
                variant.precision,
                tolerance.floors,
                oracle.usual_magnitude(index),
                rows,
            )
            yield dataclasses.replace(measured, floor=floor)
        else:
            yield measured


def _beyond_thresholds(measured: OutputMeasurement, tolerance: Tolerance) -> bool:
    """Whether thresholds do not let an output pass.

    On a probe that may be rounding: thresholds are written for ordinary inputs.
    """
    found = [(metric, getattr(measured, metric)) for metric in METRICS]
    found += [pair for row in measured.rows for pair in row.values]
    return bool(measured.nonfinite or measured.outside_allclose) or not all(
        tolerance.passes(metric, value) for metric, value in found
    )


def _swaps(
    outputs: list[OutputMeasurement], expected: Expected, actual: dict[str, Array], floors: float
) -> Iterator[OutputMeasurement]:
    """Notices outputs that carry the values of another one.

    Where rounding explains an error, two outputs may well be the same but for it.
    """
    import numpy as np

    for output in outputs:
        found = actual[output.name]
        own_error = output.max_abs
        if own_error and not output.nonfinite and not _rounded(output, floors):
            for other, wanted in zip(outputs, expected.outputs, strict=True):
                if other is output or wanted.shape != found.shape or wanted.dtype != found.dtype:
                    continue
                both = np.isfinite(wanted) & np.isfinite(found)
                if (np.isfinite(wanted) != np.isfinite(found)).any() or not both.any():
                    continue
                apart = np.abs(wanted[both].astype(float) - found[both].astype(float)).max()
                if apart < own_error * 1e-3:
                    output = dataclasses.replace(output, swapped_with=other.name)
                    break
        yield output


def _rounded(output: OutputMeasurement, floors: float) -> bool:
    """Whether rounding alone explains what differs."""
    if output.floor is not None:
        return output.floor.ratio <= floors
    return output.tied >= output.differing or (output.max_abs or 0.0) <= _ROUNDED * output.scale
