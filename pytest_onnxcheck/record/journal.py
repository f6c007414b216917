"""A record while its run goes on: lines of JSON, of which a kill loses no more than the last.

The first line is the record without checks. Each further one adds to it: lists are extended, other
values replaced. A line that holds a whole record again is the start of a run that went on from the
one before. A check's line has besides what pytest reported of it, by which a later run can tell it
again, and what that rests on.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_onnxcheck.errors import RecordError
from pytest_onnxcheck.files import write_atomically
from pytest_onnxcheck.record.encoding import as_line

__all__ = ["Journal", "Recorded", "assembled", "recorded"]

#: keys of a line that are no part of the record
_ASIDE = ("report", "basis")


@dataclass(frozen=True)
class Recorded:
    """A check that an earlier run finished.

    Attributes:
        entry: Its entry, as JSON has it.
        report: What pytest's report said, as its own hooks serialise it.
        basis: What it rests on, see `plugin.resume`.
    """

    entry: dict[str, Any]
    report: dict[str, Any]
    basis: dict[str, Any]


class Journal:
    """An open record to which lines are added; each is written at once."""

    def __init__(self, path: Path, record: Mapping[str, Any], *, resuming: bool = False) -> None:
        """Begins a record.

        Args:
            path: Where the record is to be; its folder is made.
            record: The record without checks.
            resuming: Whether an unfinished one is there, which is gone on with.
        """
        first = as_line(record)
        if resuming:
            _cut_torn_line(path)
        else:
            write_atomically(path, first.decode())
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        if resuming:
            os.write(self._file, first)

    def add(self, **values: object) -> None:
        """Adds to lists of the record, and sets other values.

        A finished check has beside `checks`, which its entry is put into, a `report` (pytest's own,
        serialised) and a `basis` (what it rests on); without them it is made again by a run that
        goes on.
        """
        line = as_line(values)
        while line:  # a disk that is nearly full takes a part
            line = line[os.write(self._file, line) :]

    def close(self) -> None:
        """Ends it; the file stays."""
        os.close(self._file)


def assembled(text: str, name: str) -> dict[str, Any] | None:
    """The unfinished record that lines make; None where they are none.

    Args:
        text: The lines; the last may be torn.
        name: What errors call it.

    Raises:
        RecordError: A line before the last is damaged.
    """
    record: dict[str, Any] | None = None
    checks: dict[str, dict[str, Any]] = {}
    for line in _lines(text, name):
        if "format" in line:
            checks = {nodeid: {**entry, "resumed": True} for nodeid, entry in checks.items()}
            record = {**line, "finished": False}
            continue
        if record is None:
            return None
        for entry in line.pop("checks", ()):
            checks.pop(entry["nodeid"], None)
            checks[entry["nodeid"]] = entry
        for key, value in line.items():
            known = record.get(key)
            if isinstance(value, list) and isinstance(known, list):
                record[key] = [*known, *value]
            elif key not in _ASIDE:
                record[key] = value
    return record and {**record, "checks": list(checks.values())}


def recorded(path: Path) -> dict[str, Recorded] | None:
    """Node id -> what an unfinished record can tell again; None where none is there.

    Raises:
        RecordError: It is damaged, or something else.
    """
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: not a record: {error}") from error
    found: dict[str, Recorded] = {}
    lines = list(_lines(text, str(path)))
    if not lines or "format" not in lines[0] or lines[0].get("finished", True):
        return None
    for line in lines:
        for entry in line.get("checks", ()) if "format" not in line else ():
            found.pop(entry["nodeid"], None)
            if "report" in line and "basis" in line:
                found[entry["nodeid"]] = Recorded(entry, line["report"], line["basis"])
    return found


def _lines(text: str, name: str) -> Iterator[dict[str, Any]]:
    """The lines' values; without the last one if it is torn."""
    whole, _, _ = text.rpartition("\n")
    for number, line in enumerate(whole.split("\n"), 1):
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not (isinstance(value, dict) and _is_line(value)):
            if number == 1:
                return  # something else
            raise RecordError(
                f"{name}:{number}: a damaged record: no line of an unfinished one: run the checks "
                "again without --onnxcheck-resume"
            )
        yield value


def _is_line(value: dict[str, Any]) -> bool:
    """Whether a line has what all have: checks are entries, and what is aside is a dict."""
    checks = value.get("checks", [])
    entries = isinstance(checks, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("nodeid"), str) for entry in checks
    )
    return entries and all(isinstance(value.get(key, {}), dict) for key in _ASIDE)


def _cut_torn_line(path: Path) -> None:
    """Takes away what follows the last whole line."""
    content = path.read_bytes()
    os.truncate(path, content.rfind(b"\n") + 1)
