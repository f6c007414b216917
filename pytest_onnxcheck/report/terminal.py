"""The summary at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from pytest_onnxcheck.measurement import MutantOutcome
from pytest_onnxcheck.report.table import HEADER, Entry, cells, rows, warnings
from pytest_onnxcheck.report.text import survivor

__all__ = ["summary"]

_MARKUP = {"FAIL": {"red": True}, "XPASS": {"red": True}, "warn": {"yellow": True}}
_MARKUP |= {"pass": {"green": True}}


#: unnoticed faults shown of one artefact
_MOST_SURVIVORS = 3


def summary(entries: Iterable[Entry]) -> Iterator[tuple[str, dict[str, bool]]]:
    """The lines of the table, the warnings and the unnoticed mutants, each with its markup."""
    entries = list(entries)
    lines = [HEADER, *(cells(row) for row in rows(entries))]
    used = [i for i in range(len(HEADER)) if any(line[i] != "-" for line in lines[1:])]
    widths = {i: max(len(line[i]) for line in lines) for i in used}
    for line in lines:
        text = "  ".join(line[i].ljust(widths[i]) for i in used).rstrip()
        yield text, {"bold": True} if line is HEADER else _MARKUP.get(line[-1], {})
    for text in warnings(entries):
        yield text, {"yellow": True}
    yield from ((text, {}) for text in _mutants(entries))


def _mutants(entries: Iterable[Entry]) -> Iterator[str]:
    """How many injected faults were noticed in all, and those that were not."""
    counted: Counter[str] = Counter()
    for entry in entries:
        mutants = entry.get("measurement", {}).get("mutants", ())
        counted.update(mutant["result"] for mutant in mutants)
        survived = [mutant for mutant in mutants if mutant["result"] == "survived"]
        for mutant in survived[:_MOST_SURVIVORS]:
            yield f"survived  {entry['nodeid']}: {survivor(MutantOutcome(**mutant))}"
        if len(survived) > _MOST_SURVIVORS:
            yield f"survived  … and {len(survived) - _MOST_SURVIVORS} more there, in the record"
    changed = counted["killed"] + counted["survived"]
    if changed:
        yield (
            f"mutants: {counted['killed']} of {changed} injected faults were noticed "
            f"({counted['killed'] / changed:.3f}); {counted['equivalent']} more changed no output"
        )
