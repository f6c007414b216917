"""Warnings, which pytest itself does not show."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.verdict import Grade
from pytest_onnxcheck.wording import several

__all__ = ["grouped_warnings", "warnings"]


def warnings(entries: Iterable[Entry]) -> Iterator[str]:
    """One text per distinct warning: the first check with it, how many more, what it says."""
    where: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if entry.state == "warn":
            where.setdefault((entry.model, entry.reason), []).append(entry.nodeid)
    for (_, reason), nodeids in where.items():
        more = f" (and {len(nodeids) - 1} more checks)" if len(nodeids) > 1 else ""
        yield f"warn  {nodeids[0]}{more}: {reason}"


def grouped_warnings(entries: Iterable[Entry]) -> Iterator[str]:
    """One text per kind of warning: which variants have it, and what it says of the first.

    Of a kind are warnings of one check about one thing: what they say differs in its numbers.
    """
    kinds: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        if entry.state == "warn":
            warned = [finding for finding in entry.findings if finding.grade is Grade.WARN]
            what = warned[0].what if warned else entry.reason
            kinds.setdefault((entry.check, what), []).append(entry)
    for (check, _), found in kinds.items():
        variants = list(dict.fromkeys(f"{entry.model}::{entry.variant}" for entry in found))
        also = f" (also {several(variants[1:], 2)})" if len(variants) > 1 else ""
        yield f"warn  {variants[0]} {check}: {found[0].reason}{also}"
