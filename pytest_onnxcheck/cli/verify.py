"""`onnxcheck verify`: whether a bundle is still what was released."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option
from pytest_onnxcheck.cli.printing import echo

__all__ = ["verify"]


@click.command()
@click.argument("folder", type=FILE)
@click.option(
    "--key",
    type=FILE,
    metavar="PUBLIC",
    help="The public key that it must be signed with, in PEM.",
)
@json_option
def verify(folder: Path, key: Path | None, as_data: bool) -> None:
    """Check that a bundle is what was released.

    Holds every file in FOLDER to its hash, judges the record in it again, and makes metadata and
    card anew from that. All that differs is told. Without --key, whoever changes all of it to fit
    is not found out.
    """
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.release import verify as check

    found = check(folder, key)
    if as_data:
        echo(as_json(found.to_json()), nl=False)
        return
    if found.signed_with is None:
        signed = "; not signed"
    elif key is None:
        signed = f"; signed with {found.signed_with[:12]}…, which was not checked (--key PUBLIC)"
    else:
        signed = f", and signed with {key}"
    echo(f"{found.summary}: as it was made{signed}")
