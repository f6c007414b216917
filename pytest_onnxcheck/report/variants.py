"""Variants in a terminal: a line of numbers each, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from pytest_onnxcheck.manifest.terms import Check
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.rows import Row
from pytest_onnxcheck.report.failures import unexpected
from pytest_onnxcheck.report.layout import Line, fitted, wrapped
from pytest_onnxcheck.report.resting import rests_on
from pytest_onnxcheck.report.table import HEADER, cells
from pytest_onnxcheck.verdict import Grade
from pytest_onnxcheck.wording import one_line

__all__ = ["MARKUP", "faults", "listed_variants", "rank", "symbol"]

#: the worst first
_ORDER = ("FAIL", "XPASS", "xfail", "warn", "skip", "partial", "pass")

_SYMBOLS = {"FAIL": "✗", "XPASS": "✗", "warn": "!", "pass": "✓"}
_PLAIN = {"✗": "x", "✓": "+"}

MARKUP = {"FAIL": {"red": True}, "XPASS": {"red": True}, "warn": {"yellow": True}}
MARKUP |= {"pass": {"green": True}}

#: columns of the table by their name there, and what they are called here; the first are shown
#: always, as far as there is room
_COLUMNS = {
    "size": "size",
    "loss": "error",
    "speed-up": "speed-up",
    "x fp32": "x fp32",
    "mutants": "mutants",
    "drop": "drop",
    "ratio": "of fp32",
    "coverage": "coverage",
}
_FEW = 6

#: columns of ratios
_TIMES = ("speed-up", "x fp32")

#: faults told of one check
_MOST_FAULTS = 3

#: an error's own text, which may be pages long
_LONGEST = 600


def rank(state: str) -> int:
    """The place of a state where the worst comes first."""
    return _ORDER.index(state) if state in _ORDER else len(_ORDER)


def symbol(state: str, *, plain: bool) -> str:
    """The sign of a state; `plain` where the terminal has no others than ASCII's."""
    found = _SYMBOLS.get(state, "-")
    return _PLAIN.get(found, found) if plain else found


def listed_variants(
    models: Sequence[Sequence[Row]], width: int, *, every: bool, plain: bool
) -> tuple[str, list[list[tuple[Row, list[Line]]]]]:
    """The head of a list, and of each model its variants with their lines, one below the other.

    Args:
        models: The rows of each model.
        width: Characters a line.
        every: With every column, and the outcome of every check, on lines below.
        plain: Without signs other than ASCII's.
    """
    found = [row for model in models for row in model]
    names = [*_COLUMNS] if every else [*_COLUMNS][:_FEW]
    header = ["variant", *(_COLUMNS[name] for name in names)]
    table = [[row.variant, *_numbers(row, names)] for row in found]
    # with the state behind
    lines = list(fitted(header, table, width - len("  XPASS  "), indent="    ", below=every))
    shown = iter(
        [
            (row, list(_with_state(row, each, width, every=every, plain=plain)))
            for row, each in zip(found, lines[1:], strict=True)
        ]
    )
    return lines[0][0], [[next(shown) for _ in model] for model in models]


def _with_state(
    row: Row, lines: Sequence[str], width: int, *, every: bool, plain: bool
) -> Iterator[Line]:
    state = row.verdict()
    first = f"  {symbol(state, plain=plain)} {lines[0][4:]}"
    markup = MARKUP.get(state, {})
    yield first if state == "pass" else f"{first}  {state}", markup
    yield from ((text, {}) for text in lines[1:])
    if every:
        for text in filter(None, (_outcomes(row), rests_on([row]))):
            yield from ((line, {}) for line in wrapped(text, width, " " * 8))


def _numbers(row: Row, names: Sequence[str]) -> list[str]:
    values = dict(zip(HEADER, cells(row), strict=True))
    return [
        f"{values[name]}x" if name in _TIMES and values[name] != "-" else values[name]
        for name in names
    ]


def _outcomes(row: Row) -> str:
    """The worst outcome of every check that it has, `warn latency; pass export, structure`."""
    names = [*get_args(Check)]
    names += dict.fromkeys(entry.check for entry in row.entries if entry.check not in names)
    states: dict[str, list[str]] = {}
    for name in names:
        states.setdefault(row.state(name), []).append(name)
    states.pop("-", None)
    return "; ".join(f"{state} {', '.join(states[state])}" for state in sorted(states, key=rank))


def faults(row: Row, width: int, told: dict[str, str]) -> Iterator[Line]:
    """What is red of a variant, in full.

    Args:
        row: The variant.
        width: Characters a line.
        told: What was told of other variants of the model, and of which: it is not repeated.
    """
    for entry in row.entries:
        if entry.outcome == "xpassed":
            yield from _fault(f"XPASS {_check(entry)}: {unexpected(entry)}", width)
        elif entry.outcome == "failed":
            for text in _failures(entry):
                known = told.setdefault(f"{entry.check} {text}", row.variant)
                if known != row.variant:
                    text = f"the same as of {known}"
                yield from _fault(f"FAIL {_check(entry)}: {text}", width)


def _fault(text: str, width: int) -> Iterator[Line]:
    yield from ((line, {"red": True}) for line in wrapped(text, width, " " * 6, " " * 8))


def _check(entry: Entry) -> str:
    """The check as pytest names it."""
    return f"test_{entry.check}{f'[{entry.point}]' if entry.point else ''}"


def _failures(entry: Entry) -> list[str]:
    """The worst of what failed, once for each thing it is about, and how many more there are."""
    failed = [finding for finding in entry.findings if finding.grade is Grade.FAIL]
    if not failed:
        return [one_line(entry.reason, _LONGEST)]
    about: dict[str, str] = {}
    for finding in failed:
        about.setdefault(finding.what, one_line(finding))
    told = [*about.values()][:_MOST_FAULTS]
    more = len(failed) - len(told)
    return [*told, f"and {more} more, in the record (--onnxcheck-json)"] if more else told
