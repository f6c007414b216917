"""`onnxcheck validate`: is a manifest right, and all it names; which variants does it have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from pytest_onnxcheck.api.validate import Validation

__all__ = ["validate"]


@click.command()
@click.argument("manifest", type=click.Path(path_type=Path), default=Path("models.toml"))
@click.option(
    "--import/--no-import",
    "imports",
    default=True,
    help="Import factories and sources, and build the models (the default).",
)
@click.option("--json", "as_data", is_flag=True, help="Print what was found as JSON.")
def validate(manifest: Path, imports: bool, as_data: bool) -> int:
    """Check a manifest and everything it names.

    Opens every file that MANIFEST (default: models.toml) names, imports every factory and source,
    builds the models, opens a session on every target, and lists the variants and what would be
    skipped. All problems are told at once.
    """
    from pytest_onnxcheck.api.validate import validate as run

    found = run(manifest, imports=imports)
    if as_data:
        from pytest_onnxcheck.record.encoding import as_json

        click.echo(as_json(found.to_json()), nl=False)
    else:
        _tell(found)
    return 0 if found.ok else 1


def _tell(found: Validation) -> None:
    from pytest_onnxcheck.wording import several

    for problem in found.problems:
        click.echo(problem.text, err=True)
    if found.problems:
        return
    for variant in found.variants:
        click.echo(variant)
    for skipped in found.skipped:
        names = several(skipped.models, 3)
        click.echo(f"would skip {skipped.what} ({names}): {skipped.reason}", err=True)
