"""Verdicts: what `judge` says and `report` shows. Plain data."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import IntEnum

__all__ = ["Finding", "Grade", "Limit", "Verdict"]


class Grade(IntEnum):
    """How good; the worst of several is their `max`."""

    PASS = 0
    WARN = 1
    FAIL = 2

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True)
class Finding:
    """One thing worth saying about a check.

    Attributes:
        grade: How bad it is; a PASS finding is a remark.
        what: What was looked at, e.g. `output 'logits' max_abs`.
        text: What was measured against what is allowed, and how to mend it.
        where: The case, node or file, if that matters.
        inconclusive: The measurement could not tell; a failure with `--onnxcheck-strict`.
        longer: Measuring longer may tell.
    """

    grade: Grade
    what: str
    text: str
    where: str = ""
    inconclusive: bool = False
    longer: bool = False

    def __str__(self) -> str:
        place = f" [{self.where}]" if self.where else ""
        return f"{self.what}{place}: {self.text}"


@dataclass(frozen=True)
class Limit:
    """One number of the manifest, or built in, that a check is held to.

    Attributes:
        key: Where the manifest has it: `tolerance.safety`, `budget.min_speedup.cpu`.
        passes: The bound up to which a measurement passes.
        fails: The bound beyond which it fails; between the two it warns.
        larger_is_better: Whether it passes above its bound, and not below.
    """

    key: str
    passes: float
    fails: float
    larger_is_better: bool = False


@dataclass(frozen=True)
class Verdict:
    """The findings of one check, the worst first, and the grade that follows from them."""

    findings: tuple[Finding, ...] = ()

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> Verdict:
        """Orders the findings by grade; those of one grade keep their order."""
        return cls(tuple(sorted(findings, key=lambda finding: -finding.grade)))

    def strict(self) -> Verdict:
        """The verdict when what could not be told is a failure."""
        return Verdict.of(
            replace(finding, grade=Grade.FAIL, text=f"{finding.text} (red by --onnxcheck-strict)")
            if finding.inconclusive
            else finding
            for finding in self.findings
        )

    @property
    def decided(self) -> bool:
        """Whether measuring longer would change nothing."""
        fails = self.grade is Grade.FAIL
        return fails or not any(finding.longer for finding in self.findings)

    @property
    def grade(self) -> Grade:
        """The worst grade of the findings; PASS when there are none."""
        return max((finding.grade for finding in self.findings), default=Grade.PASS)

    @property
    def reason(self) -> str:
        """The worst finding in one line, empty for a clean pass."""
        return str(self.findings[0]) if self.findings else ""

    def graded(self, grade: Grade) -> tuple[Finding, ...]:
        """The findings of one grade."""
        return tuple(finding for finding in self.findings if finding.grade is grade)
