"""`onnxcheck table`: a record as the table that a run prints."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import json_option
from pytest_onnxcheck.cli.printing import echo

__all__ = ["table"]


@click.command()
@click.argument("record", type=click.Path(path_type=Path))
@json_option
def table(record: Path, as_data: bool) -> None:
    """Print the table of a record as Markdown.

    RECORD is what --onnxcheck-json wrote.
    """
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.record.record import load
    from pytest_onnxcheck.record.rows import rows
    from pytest_onnxcheck.report.table import made_on, markdown

    read = load(record)
    if as_data:
        echo(as_json([row.to_json() for row in rows(read.checks)]), nl=False)
        return
    echo(f"{markdown(read.checks)}\n{made_on(read)}", nl=False)
