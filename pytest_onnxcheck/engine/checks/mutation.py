"""Proof that the checks can fail: faults are put into a passing artefact; who notices them?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts import writing
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks.case import measure_case
from pytest_onnxcheck.engine.checks.structure import measure_model
from pytest_onnxcheck.engine.failure import Failure
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.mutants.mutants import Mutant, mutants
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.runtime.session import Session, open_model, open_session
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.targets import Target
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    EquivalenceMeasurement,
    MutantOutcome,
    MutationMeasurement,
)
from pytest_onnxcheck.progress import staged

if TYPE_CHECKING:
    import numpy as np

    Outputs = list[np.ndarray[Any, Any]]

__all__ = ["measure"]


@staged("injecting faults", lambda artefact, oracle, *_: (oracle.reference.model.name,))
def measure(
    artefact: Artefact,
    oracle: Oracle,
    variant: Variant,
    target: Target,
    count: int,
    failure: Failure,
) -> MutationMeasurement:
    """Judges seeded mutants of an artefact as the artefact itself is judged, until one fails.

    Args:
        artefact: What to mutate; it stays as it is.
        oracle: What the model should give.
        variant: The variant the artefact belongs to.
        target: Where to run the mutants.
        count: How many mutants.
        failure: The gate's own judgement, of structure and of single cases.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there, or is too large.
    """
    if artefact.size_bytes > writing.MAX_INLINE_BYTES:
        raise RunError(
            f"{artefact.path}: faults are put into a model in memory, of up to "
            f"{writing.MAX_INLINE_BYTES / 1e9:.2f} GB, and this one has "
            f"{artefact.size_bytes / 1e9:.2f} GB: leave it out, "
            'skip = [{ reason = "too large", checks = ["mutation"] }]'
        )
    session = open_session(artefact, target)
    cases = oracle.cases(variant)
    original: dict[str, Outputs] = {}
    for case in cases:
        found = measure_case(session, oracle, variant, case)
        if found is None or not any(output.elements for output in found.outputs):
            continue
        failed = failure(_alone(session, found), variant)
        if failed is not None:
            return MutationMeasurement(target.name, session.provider, (), unsound=failed)
        original[case.name] = session.run(case.inputs)
    cases = [case for case in cases if case.name in original]
    model = oracle.reference.model
    seed = f"{model.seed}/{model.name}/{variant.name}"
    return MutationMeasurement(
        target.name,
        session.provider,
        tuple(
            _outcome(mutant, oracle, variant, session, cases, original, failure)
            for mutant in mutants(artefact.path, count, seed)
        ),
    )


def _outcome(
    mutant: Mutant,
    oracle: Oracle,
    variant: Variant,
    shipped: Session,
    cases: list[Case],
    original: dict[str, Outputs],
    failure: Failure,
) -> MutantOutcome:
    def outcome(result: str, by: str = "", ratio: float | None = None) -> MutantOutcome:
        return MutantOutcome(mutant.operator, mutant.description, result, by, ratio)

    failed = failure(measure_model(mutant.model, oracle.reference, variant), variant)
    if failed is not None:
        return outcome("killed", f"structure: {failed}")
    try:
        session = open_model(mutant.model.SerializeToString(), shipped.target, shipped.narrowed)
    except RunError as error:
        return outcome("killed", f"load: {error}")
    worst: float | None = None
    for case in cases:
        found = measure_case(session, oracle, variant, case)
        assert found is not None
        failed = failure(_alone(session, found), variant)
        if failed is not None:
            return outcome("killed", f"equivalence, case {case.name}: {failed}", _ratio(found))
        worst = max((r for r in (worst, _ratio(found)) if r is not None), default=None)
    if all(_unchanged(session, case, original[case.name]) for case in cases):
        return outcome("equivalent")
    return outcome("survived", ratio=worst)


def _alone(session: Session, case: CaseMeasurement) -> EquivalenceMeasurement:
    return EquivalenceMeasurement(session.target.name, session.provider, (case,))


def _ratio(case: CaseMeasurement) -> float | None:
    floors = (output.floor for output in case.outputs)
    return max((floor.ratio for floor in floors if floor is not None), default=None)


def _unchanged(session: Session, case: Case, original: Outputs) -> bool:
    try:
        found = session.run(case.inputs)
    except RunError:
        return False
    return all(_bits(found, original))


def _bits(found: Outputs, original: Outputs) -> Iterator[bool]:
    for one, other in zip(found, original, strict=True):
        yield one.dtype == other.dtype and one.tobytes() == other.tobytes()
