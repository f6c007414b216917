"""What failed, with its whole text and the commands that show it again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from pytest_onnxcheck.measurement import EquivalenceMeasurement
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.report.text import failure_text
from pytest_onnxcheck.verdict import Grade, Verdict

__all__ = ["Failure", "failure", "failures", "unexpected", "whole_text"]

_FAILED = ("failed", "xpassed")


@dataclass(frozen=True)
class Failure:
    """A check that makes a run fail.

    Attributes:
        entry: The check.
        summary: The worst finding, or why the check could not be made: its first line.
        text: All that is known of it.
        commands: What runs the check again, and what reproduces it without pytest, if it left that.
    """

    entry: Entry
    summary: str
    text: str
    commands: tuple[str, ...]


def failures(entries: Iterable[Entry]) -> list[Failure]:
    """The checks that make a run fail, in their order."""
    return [failure(entry) for entry in entries if entry.outcome in _FAILED]


def failure(entry: Entry) -> Failure:
    """What is to show of a check that failed."""
    commands = [f"pytest {shlex.quote(entry.nodeid)}"]
    measured = entry.measurement
    if isinstance(measured, EquivalenceMeasurement) and measured.diagnosis is not None:
        commands += [measured.diagnosis.repro] if measured.diagnosis.repro else []
    summary = entry.reason.partition("\n")[0] or entry.outcome
    if entry.outcome == "xpassed":
        summary = unexpected(entry)
    return Failure(entry, summary, whole_text(entry), tuple(commands))


def unexpected(entry: Entry) -> str:
    """What is wrong with a check that passes against its `xfail`, and how to mend it."""
    reason = entry.expected_failure or entry.reason.removeprefix("[XPASS(strict)]").strip()
    why = f" ({reason})" if reason else ""
    return f"it passes, which the manifest does not expect{why}: take it out of the model's `xfail`"


def whole_text(entry: Entry) -> str:
    """All that is known of a check: every finding, the worst elements, the diagnosis."""
    verdict = Verdict(entry.findings)
    if verdict.graded(Grade.FAIL):
        return failure_text(entry.model, entry.variant, verdict, entry.measurement, whole=True)
    said = [unexpected(entry)] if entry.outcome == "xpassed" else []
    said += map(str, entry.findings)
    return "\n".join(said) or entry.reason or entry.outcome
