"""`onnxcheck verify`: whether a bundle is still what was released."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option
from pytest_onnxcheck.cli.printing import echo

__all__ = ["verify"]


@click.command()
@click.argument("folder", type=FILE)
@json_option
def verify(folder: Path, as_data: bool) -> None:
    """Check that a bundle is what was released.

    Holds every file in FOLDER to its hash, judges the record in it again, and makes metadata and
    card anew from that. All that differs is told. Bundles are not signed: whoever changes all of it
    to fit is not found out.
    """
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.release import verify as check

    found = check(folder)
    if as_data:
        echo(as_json(found.to_json()), nl=False)
    else:
        echo(f"{found.summary}: as it was made; not signed")
