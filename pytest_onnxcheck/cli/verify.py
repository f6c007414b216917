"""`onnxcheck verify`: whether a bundle is still what was released."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option
from pytest_onnxcheck.cli.printing import echo

__all__ = ["verify"]


@click.command()
@click.argument("source")
@click.option(
    "--key",
    type=FILE,
    metavar="PUBLIC",
    help="The public key that it must be signed with, in PEM.",
)
@click.option(
    "--to", type=FILE, metavar="FOLDER", help="Keep what is downloaded, as FOLDER/NAME-VERSION."
)
@json_option
def verify(source: str, key: Path | None, to: Path | None, as_data: bool) -> None:
    """Check that a bundle is what was released.

    SOURCE is a bundle's folder, or where it was published, which is downloaded: URI/NAME/VERSION,
    or URI/NAME for the current version. Holds every file to its hash, judges the record again, and
    makes metadata and card anew from that. All that differs is told. Without --key, whoever changes
    all of it to fit is not found out.
    """
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.release import fetch
    from pytest_onnxcheck.release import verify as check
    from pytest_onnxcheck.release.fetch import is_published

    with tempfile.TemporaryDirectory() as temporary:
        if is_published(source):
            found = fetch(source, Path(temporary) if to is None else to, key)
            where = source if to is None else str(found.folder)
        elif to is not None:
            raise click.UsageError(f"--to keeps what is downloaded, and {source} is here")
        else:
            found, where = check(Path(source), key), source
    if as_data:
        echo(as_json({**found.to_json(), "folder": where}), nl=False)
        return
    if found.signed_with is None:
        signed = "; not signed"
    elif key is None:
        signed = f"; signed with {found.signed_with[:12]}…, which was not checked (--key PUBLIC)"
    else:
        signed = f", and signed with {key}"
    echo(f"{where}  {found.what}: as it was made{signed}")
