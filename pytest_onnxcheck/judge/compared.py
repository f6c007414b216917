"""What is other in a run than in an earlier one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pytest_onnxcheck.record.entry import Entry

__all__ = ["Change", "Changes", "compared", "rank"]

#: the better, the lower
_ORDER = {"passed": 0, "warn": 1, "xfailed": 2, "skipped": 3, "xpassed": 4, "failed": 5}


@dataclass(frozen=True)
class Change:
    """A check whose outcome is another one.

    Attributes:
        nodeid: The check.
        model: Its model.
        before: Its state in the earlier run; empty where it was not there.
        after: Its state now; empty where it is gone.
        reason: What is said of it now.
    """

    nodeid: str
    model: str
    before: str
    after: str
    reason: str = ""


@dataclass(frozen=True)
class Changes:
    """What is other in a run than in an earlier one, in the order of the checks.

    Attributes:
        worse: Checks that fail, warn or are skipped, and did not.
        better: The other way round.
        new: Checks that were not there.
        gone: Checks that are no longer there.
    """

    worse: tuple[Change, ...] = ()
    better: tuple[Change, ...] = ()
    new: tuple[Change, ...] = ()
    gone: tuple[Change, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything is."""
        return bool(self.worse or self.better or self.new or self.gone)


def compared(before: Iterable[Entry], after: Iterable[Entry]) -> Changes:
    """Sets the checks of two runs side by side, by their node ids."""
    was = {entry.nodeid: entry for entry in before}
    now = {entry.nodeid: entry for entry in after}
    both = [(was[nodeid], now[nodeid]) for nodeid in now if nodeid in was]
    moved = [
        (rank(new) - rank(old), Change(new.nodeid, new.model, old.state, new.state, new.reason))
        for old, new in both
    ]
    return Changes(
        worse=tuple(change for step, change in moved if step > 0),
        better=tuple(change for step, change in moved if step < 0),
        new=tuple(
            Change(nodeid, entry.model, "", entry.state, entry.reason)
            for nodeid, entry in now.items()
            if nodeid not in was
        ),
        gone=tuple(
            Change(nodeid, entry.model, entry.state, "")
            for nodeid, entry in was.items()
            if nodeid not in now
        ),
    )


def rank(entry: Entry) -> int:
    """How bad the outcome of a check is: the better, the lower."""
    return _ORDER.get(entry.state, len(_ORDER))
