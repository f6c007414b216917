"""Runs every case on PyTorch and on the artefact, and measures how they differ."""

from __future__ import annotations

from pytest_onnxcheck.engine.cache import Artefact
from pytest_onnxcheck.engine.compare import compare
from pytest_onnxcheck.engine.inputs import Case, declared_cases
from pytest_onnxcheck.engine.reference import Reference
from pytest_onnxcheck.engine.runtime import Session, open_session
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.manifest.sections import Tolerance
from pytest_onnxcheck.measurement import CaseMeasurement, EquivalenceMeasurement

__all__ = ["measure"]


def measure(
    artefact: Artefact, reference: Reference, target: str, tolerance: Tolerance
) -> EquivalenceMeasurement:
    """Compares an artefact with PyTorch on a target, case by case.

    PyTorch always runs on the CPU: its outputs are the reference for every target alike.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there.
        InputError: PyTorch itself does not run on a case.
    """
    session = open_session(artefact, target)
    cases = [_case(reference, session, case, tolerance) for case in declared_cases(reference)]
    return EquivalenceMeasurement(target, session.provider, tuple(cases))


def _case(
    reference: Reference, session: Session, case: Case, tolerance: Tolerance
) -> CaseMeasurement:
    expected = reference.expected(case.name, case.inputs)
    declared = reference.model.outputs
    try:
        actual = session.run(case.inputs)
    except RunError as error:
        return CaseMeasurement(case.name, error=str(error))
    by_name = dict(zip(session.outputs, actual, strict=True))
    missing = [name for name in declared if name not in by_name]
    if missing or len(by_name) != len(declared):
        return CaseMeasurement(
            case.name,
            error=f"the artefact gives outputs {session.outputs}, declared {list(declared)}",
        )
    return CaseMeasurement(
        case.name,
        tuple(
            compare(name, entry, wanted, by_name[name], tolerance)
            for (name, entry), wanted in zip(declared.items(), expected, strict=True)
        ),
    )
