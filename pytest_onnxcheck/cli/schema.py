"""`onnxcheck schema`: what a manifest, a record, or the metadata of a bundle may hold."""

from __future__ import annotations

import click

from pytest_onnxcheck.cli.printing import echo

__all__ = ["schema"]


@click.command()
@click.option("--markdown", is_flag=True, help="As reference documentation.")
@click.option("--record", "of_record", is_flag=True, help="Of a record, not of the manifest.")
@click.option("--metadata", is_flag=True, help="Of a bundle's metadata.json.")
def schema(markdown: bool, of_record: bool, metadata: bool) -> None:
    """Print the JSON Schema of a manifest, record or metadata."""
    if markdown + of_record + metadata > 1:
        raise click.UsageError(
            "give one of --markdown (which is of the manifest), --record and --metadata"
        )
    if of_record:
        from pytest_onnxcheck.record.schema import text

        echo(text(), nl=False)
    elif metadata:
        from pytest_onnxcheck.release.schema import metadata_schema

        echo(metadata_schema(), nl=False)
    else:
        from pytest_onnxcheck.manifest.schema import json_schema, reference

        echo(reference() if markdown else json_schema(), nl=False)
