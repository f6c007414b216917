"""`onnxcheck publish`: a bundle goes where others find it."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option
from pytest_onnxcheck.cli.printing import echo

__all__ = ["publish"]


@click.command()
@click.argument("bundle", type=FILE)
@click.option(
    "--to",
    required=True,
    metavar="URI",
    help="s3://BUCKET/PREFIX, file:///FOLDER, or a folder.",
)
@click.option(
    "--pattern",
    metavar="TEXT",
    help="What VERSION is made from. Default: v{UTC:%Y%m%d_%H%M%S}-{sha256:12}, when the gate "
    "ended and the bundle's hash.",
)
@json_option
def publish(bundle: Path, to: str, pattern: str | None, as_data: bool) -> None:
    """Publish a bundle, and make it current.

    BUNDLE is verified, and stored as URI/NAME/VERSION/; release.json goes last, and what has none
    is not released. The same bundle again finds itself, and completes what was cut off. Credentials
    come from the environment or ~/.aws, as AWS's own tools have them.
    """
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.release import publish as act
    from pytest_onnxcheck.release.pattern import PATTERN

    made = act(bundle, to, PATTERN if pattern is None else pattern)
    if as_data:
        echo(as_json(made.to_json()), nl=False)
    else:
        echo(made.summary)
    for text in made.told:
        echo(text, err=True)
