"""`onnxcheck publish`: a bundle goes where others find it."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option, registry_options
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
@click.option("--register", "name", metavar="NAME", help="Register it in MLflow under this name.")
@registry_options
@json_option
def publish(
    bundle: Path,
    to: str,
    pattern: str | None,
    name: str | None,
    alias: str | None,
    stage: str | None,
    as_data: bool,
) -> None:
    """Publish a bundle, and make it current.

    BUNDLE is verified, and stored as URI/NAME/VERSION/; release.json goes last, and what has none
    is not released. The same bundle again finds itself, and completes what was cut off. Credentials
    come from the environment or ~/.aws, as AWS's own tools have them.
    """
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.release import publish as act
    from pytest_onnxcheck.release import refuse_names, register
    from pytest_onnxcheck.release.pattern import PATTERN

    if name is None and (alias or stage):
        raise click.UsageError("--alias and --stage are of --register NAME")
    if name is not None:
        refuse_names(f"{bundle} is not published", name, alias, stage)
    made = act(bundle, to, PATTERN if pattern is None else pattern)
    if not as_data:
        echo(made.summary)
    for text in made.told:
        echo(text, err=True)
    data = made.to_json()
    if name is not None:
        registered = register(bundle, made.uri, name, alias=alias, stage=stage)
        data["registered"] = registered.to_json()
        if not as_data:
            echo(registered.summary)
        for text in registered.told:
            echo(text, err=True)
    if as_data:
        echo(as_json(data), nl=False)
