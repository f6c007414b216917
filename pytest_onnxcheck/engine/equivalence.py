"""Runs every case on PyTorch and on the artefact, and measures how they differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.cache import Artefact
from pytest_onnxcheck.engine.compare import compare
from pytest_onnxcheck.engine.floor import measure_floor, ties
from pytest_onnxcheck.engine.inputs import Case
from pytest_onnxcheck.engine.oracle import Expected, Oracle
from pytest_onnxcheck.engine.runtime import Session, open_session
from pytest_onnxcheck.errors import InputError, RunError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.measurement import CaseMeasurement, EquivalenceMeasurement, OutputMeasurement

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["measure", "measure_case"]


def measure(
    artefact: Artefact, oracle: Oracle, variant: Variant, target: str
) -> EquivalenceMeasurement:
    """Compares an artefact with PyTorch on a target, case by case.

    PyTorch always runs on the CPU: its outputs are the reference for every target alike. The
    first case is run once more at the end, after all the others.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there.
        InputError: PyTorch itself does not run on a declared case.
    """
    session = open_session(artefact, target)
    cases = list(oracle.cases(variant))
    measured = [
        found
        for case in cases
        if (found := measure_case(session, oracle, variant, case)) is not None
    ]
    first = oracle.expected(cases[0])
    again = dataclasses.replace(cases[0], name=f"{cases[0].name}, again after the others")
    if len(cases) > 1 and measured[0].error is None:
        measured.append(_measured(session, oracle, variant, again, first))
    return EquivalenceMeasurement(
        target,
        session.provider,
        tuple(measured),
        notes=tuple(oracle.notes),
        no_float64=first.problem,
    )


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
    return _measured(session, oracle, variant, case, expected)


def _measured(
    session: Session, oracle: Oracle, variant: Variant, case: Case, expected: Expected
) -> CaseMeasurement:
    declared = oracle.reference.model.outputs
    measured = CaseMeasurement(case.name, lenient=_lenient(case, expected), probe=case.probe)
    try:
        actual = session.run(case.inputs)
    except RunError as error:
        return dataclasses.replace(measured, error=str(error))
    by_name = dict(zip(session.outputs, actual, strict=True))
    if set(by_name) != set(declared):
        text = f"the artefact gives outputs {session.outputs}, declared {list(declared)}"
        return dataclasses.replace(measured, error=text)
    outputs = list(_outputs(oracle, variant, expected, by_name))
    return dataclasses.replace(measured, outputs=tuple(_swaps(outputs, expected, by_name)))


def _lenient(case: Case, expected: Expected) -> str | None:
    """Why what differs is told rather than failed; None where it is failed."""
    import numpy as np

    if case.outside_range:
        return "the manifest declares this case outside the model's range"
    floats = [array for array in expected.outputs if array.dtype.kind == "f"]
    inputs = [array for array in case.inputs.values() if array.dtype.kind == "f"]
    if (
        case.probe
        and all(np.isfinite(array).all() for array in inputs)
        and not all(np.isfinite(array).all() for array in floats)
    ):
        return "PyTorch itself gives NaN or infinity on this probe"
    return None


def _outputs(
    oracle: Oracle, variant: Variant, expected: Expected, actual: dict[str, Array]
) -> Iterator[OutputMeasurement]:
    tolerance = variant.tolerance
    for index, (name, declared) in enumerate(oracle.reference.model.outputs.items()):
        own, found = expected.outputs[index], actual[name]
        measured = compare(name, declared, own, found, tolerance)
        comparable = own.shape == found.shape and own.size and own.dtype == found.dtype
        if not comparable or tolerance.policy != "noise-floor":
            yield measured
        elif own.dtype.kind == "f":
            assert tolerance.safety is not None
            floor = measure_floor(
                expected, index, found, variant.precision, tolerance.safety, oracle.typical(index)
            )
            yield dataclasses.replace(measured, floor=floor)
        elif measured.differing:
            tied, margin = ties(expected, index, found, variant.precision)
            yield dataclasses.replace(measured, tied=tied, margin=margin)
        else:
            yield measured


def _swaps(
    outputs: list[OutputMeasurement], expected: Expected, actual: dict[str, Array]
) -> Iterator[OutputMeasurement]:
    """Notices outputs that carry the values of another one."""
    import numpy as np

    for output in outputs:
        found = actual[output.name]
        own_error = output.max_abs
        if own_error and not output.nonfinite:
            for other, wanted in zip(outputs, expected.outputs, strict=True):
                if other is output or wanted.shape != found.shape or wanted.dtype != found.dtype:
                    continue
                if np.abs(wanted.astype(float) - found.astype(float)).max() < own_error * 1e-3:
                    output = dataclasses.replace(output, swapped_with=other.name)
                    break
        yield output
