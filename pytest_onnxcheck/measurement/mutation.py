"""How many injected faults are noticed."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MutantOutcome", "MutationMeasurement"]


@dataclass(frozen=True)
class MutantOutcome:
    """What became of one mutant.

    Attributes:
        operator: Kind of fault.
        description: What was changed.
        result: `killed`, `survived`, or `equivalent`: no bit of an output changed on any case.
        by: The check that noticed it, and what it said.
        ratio: Its largest error in noise floors, over the cases that were run.
    """

    operator: str
    description: str
    result: str
    by: str = ""
    ratio: float | None = None


@dataclass(frozen=True)
class MutationMeasurement:
    """Mutants of one artefact on one target.

    Attributes:
        target: The target.
        provider: The provider that ran.
        mutants: The mutants in the order they were made.
        unsound: Why there are none: the artefact itself fails.
    """

    target: str
    provider: str
    mutants: tuple[MutantOutcome, ...]
    unsound: str | None = None

    def count(self, result: str) -> int:
        """How many were `killed`, `survived`, or `equivalent`."""
        return sum(mutant.result == result for mutant in self.mutants)

    @property
    def score(self) -> float | None:
        """Killed mutants as a share of those that change an output; None without any."""
        killed, survived = self.count("killed"), self.count("survived")
        return killed / (killed + survived) if killed + survived else None
