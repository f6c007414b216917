"""`onnxcheck table`: a record as the table that a run prints."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["table"]


@click.command()
@click.argument("record", type=click.Path(path_type=Path))
def table(record: Path) -> None:
    """Print the table of a record as Markdown.

    RECORD is what --onnxcheck-json wrote.
    """
    from pytest_onnxcheck.record.record import load
    from pytest_onnxcheck.report.table import made_on, markdown

    read = load(record)
    click.echo(f"{markdown(read.checks)}\n{made_on(read)}", nl=False)
