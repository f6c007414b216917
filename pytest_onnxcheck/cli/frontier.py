"""`onnxcheck frontier`: what each variant in a record costs and loses, and which to release."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.printing import echo
from pytest_onnxcheck.errors import OnnxCheckError

__all__ = ["frontier"]


@click.command()
@click.argument("record", type=click.Path(path_type=Path))
@click.argument("model", default="*")
@click.option("--json", "as_data", is_flag=True, help="As data, for a plot.")
def frontier(record: Path, model: str, as_data: bool) -> None:
    """Print what each variant in a record costs, and which to release.

    RECORD is what --onnxcheck-json wrote; MODEL a glob over names of models.
    """
    from pytest_onnxcheck.judge.frontier import frontiers
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.record.record import load
    from pytest_onnxcheck.report.frontier import data, markdown
    from pytest_onnxcheck.report.table import made_on

    read = load(record)
    found = frontiers(read.checks, model)
    if not found:
        names = ", ".join(dict.fromkeys(entry.model for entry in read.checks))
        raise OnnxCheckError(f"{record}: no model matches {model!r}; it holds: {names or 'none'}")
    text = as_json(data(found)) if as_data else f"{markdown(found)}\n{made_on(read)}"
    echo(text, nl=False)
