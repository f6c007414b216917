"""`onnxcheck serve`: the panel and the HTTP API."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, SIZE
from pytest_onnxcheck.cli.printing import echo

__all__ = ["serve"]


@click.command()
@click.argument("manifest", type=FILE, default=Path("models.toml"))
@click.option("--api", "api_only", is_flag=True, help="The HTTP API alone, without the panel.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where it listens.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any."
)
@click.option(
    "--token",
    envvar="ONNXCHECK_TOKEN",
    metavar="TOKEN",
    help="What every request has to show; required unless HOST is this machine's own. Better in "
    "ONNXCHECK_TOKEN, which other users do not see.",
)
@click.option(
    "--allowed-host",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name that a proxy has for it; may be repeated.",
)
@click.option("--root-path", default="", metavar="PATH", help="The path that a proxy takes off.")
@click.option("--uploads", is_flag=True, help="Take checkpoints that people send.")
@click.option(
    "--upload-limit", type=SIZE, default="2GB", show_default=True, help="Largest of them."
)
def serve(manifest: Path, **options: object) -> None:
    """Serve the panel and the HTTP API for the models of MANIFEST.

    MANIFEST is models.toml by default. Jobs run in processes of their own, which end with the
    server; Ctrl-C ends it. What had ended is there when it is started again.
    """
