"""`onnxcheck init`: a manifest for what lies here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from pytest_onnxcheck.cli.options import FILE, SHAPE, json_option, shapes, trust_option
from pytest_onnxcheck.cli.printing import echo
from pytest_onnxcheck.cli.progress import showing

__all__ = ["init"]


@click.command()
@click.argument("source", required=False)
@click.option("--checkpoint", type=FILE, help="The weights, if SOURCE is no checkpoint.")
@click.option("--factory", metavar="MODULE:NAME", help="What builds the model.")
@click.option(
    "--input",
    "inputs",
    type=SHAPE,
    multiple=True,
    metavar="NAME=SHAPE",
    help="Shape of an input, e.g. x=batch,3,224,224; may be repeated.",
)
@click.option("--output", type=FILE, default=Path("models.toml"), help="Default: models.toml.")
@click.option("--force", is_flag=True, help="Overwrite a manifest that is there.")
@click.option(
    "--try/--no-try",
    "tried",
    default=True,
    help="Export, and write what passes (the default).",
)
@trust_option
@json_option
def init(source: str | None, inputs: Any, as_data: bool, **options: Any) -> int:
    """Write a commented models.toml for what lies here.

    SOURCE is a checkpoint, module:factory, an .onnx, or a folder; by default the one checkpoint
    of this folder. What builds the model is looked for in the Python files here, its inputs are
    found by trying, and what was guessed is said in comments. Only files that declare things, and
    do nothing when imported, are imported.
    """
    from pytest_onnxcheck.api.init import init as run

    with showing():
        found = run(source, inputs=shapes(inputs), **options)
    if as_data:
        from pytest_onnxcheck.record.encoding import as_json

        echo(as_json(found.to_json()), nl=False)
        return 0 if found.ok else 1
    for note in found.notes:
        echo(f"guessed: {note}")
    if found.ok:
        echo(f"{found.path}: written; now: pytest --onnxcheck")
        return 0
    echo(f"{found.path}: written, and does not pass yet: {found.failure}", err=True)
    return 1
