"""`onnxcheck export`: checkpoints to ONNX files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_onnxcheck.cli.options import (
    FILE,
    json_option,
    recipe_options,
    shapes,
    variant_options,
)
from pytest_onnxcheck.cli.printing import echo
from pytest_onnxcheck.cli.progress import columns, showing

if TYPE_CHECKING:
    from pytest_onnxcheck.api.export import Outcome

__all__ = ["export"]


@click.command()
@click.option("--checkpoint", type=FILE, help="The weights, or the whole model.")
@click.option("--pattern", metavar="GLOB", help="Several checkpoints; ** goes into folders.")
@recipe_options
@click.option("--output", type=FILE, help="The .onnx, or a folder; default: beside the checkpoint.")
@click.option("--batch-size", type=click.IntRange(1), help="Batch to export with.")
@variant_options
@click.option(
    "--dynamic/--static", default=True, help="Whether symbolic sizes stay open (default)."
)
@click.option(
    "--validate/--no-validate",
    default=True,
    help="Hold what is exported against PyTorch (the default); what fails is not written.",
)
@click.option("--metrics", is_flag=True, help="Show MSE and cosine similarity too.")
@click.option("--verbose", "-v", is_flag=True, help="Show files, recipe and warnings too.")
@json_option
def export(
    checkpoint: Path | None,
    pattern: str | None,
    inputs: Any,
    output: Path | None,
    metrics: bool,
    verbose: bool,
    as_data: bool,
    **options: Any,
) -> int:
    """Export checkpoints to ONNX and compare them with PyTorch.

    One line a model: size, largest difference, in noise floors, and a grade. One that fails does
    not stop the others.
    """
    from pytest_onnxcheck.api.export import export_each, matching
    from pytest_onnxcheck.report.export import outcome_lines, summary

    if (checkpoint is None) == (pattern is None):
        raise click.UsageError("give either --checkpoint PATH or --pattern GLOB")
    paths = matching(pattern) if pattern is not None else [checkpoint or Path()]
    outcomes: list[Outcome] = []
    with showing() as display:
        options |= {"output": output, "inputs": shapes(inputs)}
        heads = [f"{place}/{len(paths)} {path.name}" for place, path in enumerate(paths, 1)]
        display.begin(heads[0])
        for outcome in export_each(paths, **options):
            outcomes.append(outcome)
            display.begin(*heads[len(outcomes) :][:1])
            if not as_data:
                lines = outcome_lines(
                    len(outcomes),
                    paths,
                    outcome,
                    width=columns(),
                    metrics=metrics,
                    verbose=verbose,
                )
                display.echo("\n".join(lines))
    if as_data:
        from pytest_onnxcheck.record.encoding import as_json

        echo(as_json([outcome.to_json() for outcome in outcomes]), nl=False)
    else:
        echo(summary(outcomes), nl=False)
    return 0 if all(outcome.ok for outcome in outcomes) else 1
