"""What `onnxcheck report` prints: verdicts and what failed, as text or JSON."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterator
from typing import Any

from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.record.rows import rows
from pytest_onnxcheck.report.table import file_size, made_on
from pytest_onnxcheck.report.unfinished import unfinished
from pytest_onnxcheck.wording import one_line

__all__ = ["as_data", "as_text"]

#: states of a check that make a run red
_RED = ("failed", "xpassed")


def as_data(record: Record, title: str) -> dict[str, Any]:
    """A record as JSON has it: a variant an entry, what failed and what was warned about."""
    told = [
        {"nodeid": entry.nodeid, "state": entry.state, "reason": entry.reason}
        for entry in record.checks
        if entry.state in (*_RED, "warn")
    ]
    return {
        "record": title,
        "exitstatus": record.exitstatus,
        "finished": record.finished,
        "variants": [row.to_json() for row in rows(record.checks)],
        "told": told,
        "not_collected": [dataclasses.asdict(error) for error in record.errors],
    }


def as_text(record: Record, title: str, width: int = 80) -> str:
    """A record as text: a line a variant, what failed below it, wrapped."""
    made = textwrap.wrap(made_on(record), max(width, 40), subsequent_indent="  ")
    return "\n".join([*_lines(record, title, width), "", *made, ""])


def _lines(record: Record, title: str, width: int) -> Iterator[str]:
    yield title
    yield _counts(record)
    model = ""
    for row in rows(record.checks):
        if row.model != model:
            model = row.model
            yield f"\n{model}"
        size = row.size_bytes()
        told = "" if size is None else file_size(size)
        yield f"  {row.verdict():<8} {row.variant:<28} {told:>9}".rstrip()
        for entry in row.entries:
            if entry.state in _RED:
                point = f"[{entry.point}]" if entry.point else ""
                text = f"{entry.check}{point}: {one_line(entry.reason or '')}"
                indent = " " * 11
                yield from textwrap.wrap(
                    text, max(width, 40), initial_indent=indent, subsequent_indent=indent
                )
    for error in record.errors:
        yield from ("", error.nodeid, textwrap.indent(error.error, "  "))


def _counts(record: Record) -> str:
    states = [entry.state for entry in record.checks]
    named = {"failed": "failed", "xpassed": "unexpectedly passed", "warn": "warned"}
    named |= {"xfailed": "failed as expected", "skipped": "skipped", "passed": "passed"}
    counts = [f"{states.count(state)} {name}" for state, name in named.items() if state in states]
    ended = unfinished(record) or f"exit status {record.exitstatus}"
    return f"{', '.join(counts) or 'no checks'}; {ended}"
