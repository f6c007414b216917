"""`onnxcheck releases`: what is published, and which version is current."""

from __future__ import annotations

import click

from pytest_onnxcheck.cli.options import json_option
from pytest_onnxcheck.cli.printing import echo

__all__ = ["releases"]


@click.command()
@click.argument("uri")
@click.option("--name", metavar="NAME", help="Of this name alone.")
@click.option(
    "--rollback", "version", metavar="VERSION", help="Make this version the current one, first."
)
@json_option
def releases(uri: str, name: str | None, version: str | None, as_data: bool) -> int:
    """List what is published, and go back to a version.

    URI is what bundles were published to. The current version of each name has a star.
    """
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.release import releases as look
    from pytest_onnxcheck.release import rollback

    if version is not None:
        rollback(uri, version, name)
    found = look(uri, name)
    if as_data:
        echo(as_json(found.to_json()), nl=False)
    else:
        for line in found.lines:
            echo(line)
    for text in found.told:
        echo(text, err=True)
    return 1 if found.problems else 0
