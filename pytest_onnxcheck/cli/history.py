"""`onnxcheck history`: the latencies that `--onnxcheck-history` kept."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import json_option
from pytest_onnxcheck.cli.printing import echo
from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.places import HISTORY

__all__ = ["history"]


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), default=Path(HISTORY))
@click.argument("checks", default="*")
@click.option(
    "--svg",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a plot of each check there.",
)
@json_option
def history(folder: Path, checks: str, svg: Path | None, as_data: bool) -> None:
    """List and plot the latencies that --onnxcheck-history kept.

    FOLDER is .benchmarks/onnxcheck/history by default; CHECKS a glob over names of checks or
    models.
    """
    from pytest_onnxcheck.files import write_atomically
    from pytest_onnxcheck.history import History
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.report import history as show

    kept = History(folder)
    if not kept:
        raise OnnxCheckError(
            f"{folder}: no history: run pytest --onnxcheck --onnxcheck-history="
            f"{folder}, or name the folder first: onnxcheck history DIR 'MODEL::*'"
        )
    found = show.chosen(kept, checks)
    if not found and not kept.problems:
        names = ", ".join(show.chosen(kept))
        raise OnnxCheckError(f"{folder}: no check matches {checks!r}; it holds: {names}")
    if svg is not None:
        write_atomically(svg, show.svg(kept, checks))
    text = as_json(show.as_data(kept, checks)) if as_data else show.listing(kept, checks)
    echo(text, nl=False)
