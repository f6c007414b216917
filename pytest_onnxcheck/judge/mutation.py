"""Judges how many injected faults are noticed."""

from __future__ import annotations

from pytest_onnxcheck.measurement import MutationMeasurement
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = ["mutation"]

_FAIL, _WARN, _PASS = Grade.FAIL, Grade.WARN, Grade.PASS


def mutation(measured: MutationMeasurement, minimum: float | None) -> Verdict:
    """Judges how many injected faults the checks notice.

    Args:
        measured: What became of the mutants.
        minimum: Smallest score allowed; None only tells it.
    """
    score = measured.score
    if score is None:
        return Verdict.of([Finding(_WARN, "mutants", "none of them changes an output")])
    killed, survived = measured.count("killed"), measured.count("survived")
    text = (
        f"{killed} of {killed + survived} injected faults were noticed (score {score:.2f}; "
        f"{measured.count('equivalent')} more changed no output)"
    )
    if minimum is None:
        return Verdict.of([Finding(_PASS, "mutants", text)])
    allowed = f"{text}, asked for at least {minimum:g} (tolerance.min_mutation_score)"
    failed = score < minimum
    return Verdict.of([Finding(_FAIL if failed else _PASS, "mutants", allowed)])
