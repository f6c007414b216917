"""`onnxcheck schema`: what a manifest, or a record, may hold."""

from __future__ import annotations

import click

from pytest_onnxcheck.cli.printing import echo

__all__ = ["schema"]


@click.command()
@click.option("--markdown", is_flag=True, help="As reference documentation.")
@click.option("--record", "of_record", is_flag=True, help="Of a record, not of the manifest.")
def schema(markdown: bool, of_record: bool) -> None:
    """Print the JSON Schema of a manifest, or of a record."""
    if of_record and markdown:
        raise click.UsageError("--markdown is of the manifest; leave out --record")
    if of_record:
        from pytest_onnxcheck.record.schema import text

        echo(text(), nl=False)
        return
    from pytest_onnxcheck.manifest.schema import json_schema, reference

    echo(reference() if markdown else json_schema(), nl=False)
