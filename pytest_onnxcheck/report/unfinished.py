"""That a record is of a run that was cut off, or still goes on."""

from __future__ import annotations

from pytest_onnxcheck.record.record import Record

__all__ = ["unfinished"]


def unfinished(record: Record) -> str:
    """What an unfinished record holds, in a phrase; empty of a run that came to its end."""
    if record.finished:
        return ""
    of = "" if record.selected is None else f" of {record.selected}"
    earlier = sum(entry.resumed for entry in record.checks)
    told = f", {earlier} of them by an earlier run" if earlier else ""
    return f"unfinished: {len(record.checks)}{of} checks were made{told}"
