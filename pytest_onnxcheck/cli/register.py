"""`onnxcheck register`: a published bundle becomes a version in MLflow's model registry."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option, registry_options
from pytest_onnxcheck.cli.printing import echo

__all__ = ["register"]


@click.command()
@click.argument("bundle", type=FILE)
@click.option(
    "--source", metavar="URI", required=True, help="Where it is published, e.g. s3://bucket/net/v1."
)
@click.option("--name", metavar="NAME", required=True, help="The registered model.")
@registry_options
@json_option
def register(
    bundle: Path, source: str, name: str, alias: str | None, stage: str | None, as_data: bool
) -> None:
    """Make a published bundle a version in MLflow's registry.

    BUNDLE is the folder, --source where it was published. The server is MLFLOW_TRACKING_URI's, the
    credentials are those that MLflow finds. A bundle that is registered already is found; what an
    earlier call left unfinished is completed.
    """
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.release import register as make

    made = make(bundle, source, name, alias=alias, stage=stage)
    if as_data:
        echo(as_json(made.to_json()), nl=False)
    else:
        echo(made.summary)
    for text in made.told:
        echo(text, err=True)
