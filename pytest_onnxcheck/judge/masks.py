"""Judges whether what fails are only rows that mask everything."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_onnxcheck.measurement import CaseMeasurement, EmptyRows
from pytest_onnxcheck.verdict import Finding, Grade

__all__ = ["masks"]

_MEND = (
    "if they do, mend the model: masked by a finite score (-1e4 in place of -inf), such rows give "
    "the same in both"
)


def masks(judged: Sequence[tuple[CaseMeasurement, Sequence[Finding]]]) -> Iterator[Finding]:
    """The failure that says so, where all cases that fail have such rows, and others pass.

    Args:
        judged: Cases with what was found of each.
    """
    failing: list[CaseMeasurement] = []
    passing: list[CaseMeasurement] = []
    for case, findings in judged:
        if any(finding.grade is Grade.FAIL for finding in findings):
            failing.append(case)
        elif not (case.lenient or _vacuous(case)):
            passing.append(case)
    if failing and passing:
        yield from _empty(failing, passing)
        yield from _reversed(failing, passing)


def _empty(failing: list[CaseMeasurement], passing: list[CaseMeasurement]) -> Iterator[Finding]:
    """Rows that mask everything in all that fails."""
    rows = {entry.input: entry for case in failing for entry in case.empty_rows}
    common = [entry for name, entry in rows.items() if all(_has(case, name) for case in failing)]
    also = {entry.input: sum(_has(case, entry.input) for case in passing) for entry in common}
    # of several, one that is a mask for sure, or the one that tells the two best apart
    entry = min(common, key=lambda entry: (not entry.mask, also[entry.input]), default=None)
    if entry is None or also[entry.input] == len(passing):
        return
    of = len(failing) + also[entry.input]
    what = "rows that mask everything" if entry.mask else "rows of zeros"
    question = "" if entry.mask else "looks like a mask: "
    yield Finding(
        Grade.FAIL,
        f"input {entry.input!r}",
        f"{question}only cases with {what} fail ({len(failing)} of {of}; all "
        f"{len(passing) - also[entry.input]} others pass), where PyTorch and ONNX may lawfully "
        f"differ. {_way_out(entry)}; {_MEND}",
        failing[0].case,
    )


def _reversed(failing: list[CaseMeasurement], passing: list[CaseMeasurement]) -> Iterator[Finding]:
    """Rows that mask nothing in all that fails and in nothing that passes: the other way round."""
    found = set.intersection(*(set(case.whole_rows) for case in failing))
    for name in sorted(found - {name for case in passing for name in case.whole_rows}):
        yield Finding(
            Grade.FAIL,
            f"input {name!r}",
            f"all {len(failing)} cases in which a row of it masks nothing fail and the others "
            f"({len(passing)}) do not, as if such rows masked everything: say which value masks "
            "(masked = true, or false)",
            failing[0].case,
        )


def _vacuous(case: CaseMeasurement) -> bool:
    """Whether all is zero, so that whatever is masked agrees."""
    return bool(case.outputs) and not any(output.scale for output in case.outputs)


def _has(case: CaseMeasurement, name: str) -> bool:
    return any(entry.input == name for entry in case.empty_rows)


def _way_out(entry: EmptyRows) -> str:
    """What to do where such rows do not occur."""
    if entry.expected:
        return "If they do not occur, take out empty_rows = true"
    if entry.mask:
        return "If they do not occur, take them out of these cases"
    return 'If they do not occur, give it fill = "mask", which draws none'
