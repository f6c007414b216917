"""`onnxcheck release`: a folder with what passed, ready to be handed on."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option
from pytest_onnxcheck.cli.printing import echo

__all__ = ["release"]


@click.command()
@click.argument("record", type=FILE)
@click.option(
    "--manifest",
    type=FILE,
    default=Path("models.toml"),
    show_default=True,
    help="The manifest that the record was made with.",
)
@click.option(
    "--to",
    type=FILE,
    default=Path("dist"),
    show_default=True,
    help="The folder to put NAME-VERSION into.",
)
@click.option(
    "--model", metavar="NAME", help="The model, where the manifest releases more than one."
)
@click.option(
    "--allow-dirty",
    is_flag=True,
    help="Release although a source is not committed as it is; the bundle says so.",
)
@click.option(
    "--sign",
    "key",
    type=FILE,
    metavar="KEY",
    help="Sign it with this private key: elliptic, in PEM; its password, if it has one, in "
    "ONNXCHECK_SIGN_PASSWORD.",
)
@json_option
def release(
    record: Path,
    manifest: Path,
    to: Path,
    model: str | None,
    allow_dirty: bool,
    key: Path | None,
    as_data: bool,
) -> None:
    """Make a bundle of the model that passed.

    RECORD is what --onnxcheck-json wrote. What is red, incomplete or made from other sources is
    refused, with every reason. Nothing is built or run.
    """
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.release import bundle

    made = bundle(record, manifest, to, model, allow_dirty=allow_dirty, key=key)
    if as_data:
        echo(as_json(made.to_json()), nl=False)
    else:
        echo(made.summary)
    for text in made.told:
        echo(text, err=True)
