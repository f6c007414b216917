"""`onnxcheck validate`: is a manifest right, and all it names; which variants does it have."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_onnxcheck.cli.options import FILE, json_option, trust_option
from pytest_onnxcheck.cli.printing import echo
from pytest_onnxcheck.cli.progress import columns, showing

if TYPE_CHECKING:
    from pytest_onnxcheck.api.validate import Validation

__all__ = ["validate"]


@click.command()
@click.argument("manifest", type=FILE, required=False)
@click.option(
    "--import/--no-import",
    "imports",
    default=True,
    help="Import factories and sources, and build the models (the default).",
)
@click.option("--onnx", type=FILE, help="Compare this .onnx with PyTorch instead.")
@click.option("--checkpoint", type=FILE, help="The weights it was exported from.")
@click.option("--model", metavar="NAME", help="The model of MANIFEST that it is of.")
@click.option("--factory", metavar="MODULE:NAME", help="What builds the model otherwise.")
@trust_option
@json_option
def validate(
    manifest: Path | None, imports: bool, onnx: Path | None, as_data: bool, **options: Any
) -> int:
    """Check a manifest and everything it names, or compare an .onnx.

    Opens every file that MANIFEST (default: models.toml) names, imports every factory and source,
    builds the models, opens a session on every target, and lists the variants and what would be
    skipped. All problems are told at once.

    With --onnx an artefact that exists is held against PyTorch; its inputs are those of the
    manifest, or, without one, its own.
    """
    if onnx is not None:
        return _compare(onnx, manifest, as_data, options)
    given = [f"--{name}" for name, value in options.items() if value not in (None, False)]
    if given:
        raise click.UsageError(f"{given[0]} goes with --onnx PATH, the artefact to compare")
    from pytest_onnxcheck.api.validate import validate as run
    from pytest_onnxcheck.record.encoding import as_json

    found = run(manifest or Path("models.toml"), imports=imports)
    if as_data:
        echo(as_json(found.to_json()), nl=False)
    else:
        _tell(found)
    return 0 if found.ok else 1


def _compare(onnx: Path, manifest: Path | None, as_data: bool, options: dict[str, Any]) -> int:
    from pytest_onnxcheck.api.validate_onnx import validate_onnx
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.report.export import close_text, wrapped

    with showing():
        found = validate_onnx(onnx, manifest=manifest, **options)
    if as_data:
        echo(as_json(found.to_json()), nl=False)
        return int(bool(found.failures))
    close = found.closeness
    error = "" if close is None else f"  {close_text(close)}  {close.quality}"
    echo(f"{onnx}  {found.grade}{error}")
    for failure in found.failures:
        echo("\n".join(wrapped(f"FAIL {failure}", columns(), None)))
    for warning in found.warnings:
        echo("\n".join(wrapped(f"warn {warning}", columns(), None)))
    return int(bool(found.failures))


def _tell(found: Validation) -> None:
    from pytest_onnxcheck.wording import several

    for problem in found.problems:
        echo(problem.text, err=True)
    if found.problems:
        return
    for variant in found.variants:
        echo(variant)
    for skipped in found.skipped:
        names = several(skipped.models, 3)
        echo(f"would skip {skipped.what} ({names}): {skipped.reason}", err=True)
