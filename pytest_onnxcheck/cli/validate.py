"""`onnxcheck validate`: is a manifest right, and which variants does it have."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["validate"]


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path), default=Path("models.toml"))
def validate(manifest: Path) -> None:
    """Check a manifest and list its variants."""
    from pytest_onnxcheck.manifest import load_manifest

    read = load_manifest(manifest, shown=str(manifest))
    read.check()
    for model in read.models.values():
        for variant in model.variants:
            click.echo(f"{model.name}::{variant.name}")
