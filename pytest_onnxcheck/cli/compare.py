"""`onnxcheck compare`: what changed from record to record."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option
from pytest_onnxcheck.cli.printing import echo

__all__ = ["compare"]


@click.command()
@click.argument("records", type=FILE, nargs=-1, required=True, metavar="RECORD RECORD...")
@json_option
def compare(records: tuple[Path, ...], as_data: bool) -> int:
    """Print what changed from each record to the next.

    Verdicts, errors, sizes, and speed-ups whose intervals do not meet; ! marks what is worse, +
    what is better. Exits with 1 where a verdict is worse, or a variant is gone.
    """
    if len(records) < 2:
        raise click.UsageError("give two records or more, as --onnxcheck-json wrote them")
    from pytest_onnxcheck.judge.changes import changes
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.record.record import load
    from pytest_onnxcheck.report.changes import change_lines
    from pytest_onnxcheck.report.unfinished import unfinished

    read = [load(path) for path in records]
    for path, record in zip(records, read, strict=True):
        if not record.finished:
            echo(f"{path}: {unfinished(record)}", err=True)
    found = [changes(before, after) for before, after in pairwise(read)]
    if as_data:
        pairs = zip(pairwise(map(str, records)), found, strict=True)
        told = [
            {"before": before, "after": after, "changes": list(map(dataclasses.asdict, each))}
            for (before, after), each in pairs
        ]
        echo(as_json(told), nl=False)
    else:
        for (before, after), each in zip(pairwise(records), found, strict=True):
            echo("\n".join([f"{before} -> {after}", *change_lines(each)]))
    return int(any(change.verdict and change.worse for each in found for change in each))
