"""What is different between two records: verdicts, errors, sizes, speed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pytest_onnxcheck.judge.compared import rank
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.record.rows import Row, rows

__all__ = ["Change", "changes"]

#: an error that differs by less is the same on another machine
_SAME_ERROR = 0.02


@dataclass(frozen=True)
class Change:
    """One thing that changed.

    Attributes:
        model: The model.
        variant: The variant.
        what: `variant`, the check with its point, `error`, `size`, or `speed-up` with its point.
        before: What it was; None where it was not there.
        after: What it is; None where it is gone.
        worse: Whether it is worse; None where it cannot be said.
        verdict: Whether it is about an outcome, and not a number.
    """

    model: str
    variant: str
    what: str
    before: str | float | None
    after: str | float | None
    worse: bool | None
    verdict: bool = False


def changes(before: Record, after: Record) -> list[Change]:
    """What changed from one record to another, in the order of the later one; then what is gone."""
    old = {(row.model, row.variant): row for row in rows(before.checks)}
    new = {(row.model, row.variant): row for row in rows(after.checks)}
    found: list[Change] = []
    for key, row in new.items():
        if key not in old:
            found.append(Change(*key, "variant", None, row.verdict(), None, verdict=True))
        else:
            found += [*_verdicts(old[key], row), *_numbers(old[key], row), *_speeds(old[key], row)]
    for key, row in old.items():
        if key not in new:
            found.append(Change(*key, "variant", row.verdict(), None, True, verdict=True))
    return found


def _verdicts(old: Row, new: Row) -> Iterator[Change]:
    before, after = _by_check(old), _by_check(new)
    for name in dict.fromkeys([*after, *before]):
        was, now = before.get(name), after.get(name)
        states = (None if was is None else was.state, None if now is None else now.state)
        if states[0] == states[1]:
            continue
        worse: bool | None = now is None or None
        if was is not None and now is not None:
            worse = rank(now) > rank(was)
        yield Change(new.model, new.variant, name, *states, worse, verdict=True)


def _by_check(row: Row) -> dict[str, Entry]:
    return {
        f"{entry.check}[{entry.point}]" if entry.point else entry.check: entry
        for entry in row.entries
    }


def _numbers(old: Row, new: Row) -> Iterator[Change]:
    """The error (absolute of fp32, relative of others) and the size."""
    was, now = (row.max_abs() if row.is_fp32 else row.rel_rms() for row in (old, new))
    if was is not None and now is not None and abs(now - was) > _SAME_ERROR * max(was, now):
        yield Change(new.model, new.variant, "error", was, now, now > was)
    before, after = old.size_bytes(), new.size_bytes()
    if before is not None and after is not None and before != after:
        yield Change(new.model, new.variant, "size", before, after, after > before)


def _speeds(old: Row, new: Row) -> Iterator[Change]:
    """Speed-ups whose intervals do not meet: what differs less is noise."""
    before, after = old.speed(), new.speed()
    for point in [point for point in after if point in before]:
        was, now = before[point].ratios["torch"], after[point].ratios["torch"]
        if was.high < now.low or now.high < was.low:
            what = f"speed-up[{point}]"
            yield Change(new.model, new.variant, what, was.value, now.value, now.value < was.value)
