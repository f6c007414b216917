"""`onnxcheck compat`: which releases of ONNX Runtime load an `.onnx`."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option
from pytest_onnxcheck.cli.printing import echo
from pytest_onnxcheck.cli.progress import columns, showing

__all__ = ["compat"]


@click.command(short_help="Show which ONNX Runtime releases load an .onnx.")
@click.argument("model", type=FILE, metavar="MODEL.ONNX")
@click.option("--run", is_flag=True, help="Load and run it in the releases themselves too.")
@click.option(
    "--release",
    "releases",
    multiple=True,
    metavar="VERSION",
    help="Only this release, e.g. 1.17; may be repeated. Default: all.",
)
@click.option(
    "--no-environments",
    is_flag=True,
    help="With --run: make no environment; use those that are there.",
)
@json_option
def compat(
    model: Path, run: bool, releases: tuple[str, ...], no_environments: bool, as_data: bool
) -> int:
    """Show which ONNX Runtime releases load an .onnx, or why not.

    By a table of what each release has: IR version, opsets, operators, types. With --run it is
    loaded and run there too, on inputs that are drawn for it: uv, or else venv and pip, makes an
    environment for each release, which is kept in .onnxcheck. Exits with 1 where a release of
    --release does not load it, or a run did not do what the table says.
    """
    from pytest_onnxcheck.api.compat import compat as find
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.report.compat import compatibility_lines

    if no_environments and not run:
        raise click.UsageError("--no-environments goes with --run")
    with showing():
        found = find(model, run=run, releases=releases, environments=not no_environments)
    if as_data:
        echo(as_json(found.to_json()), nl=False)
    else:
        echo("\n".join(compatibility_lines(found, width=columns())))
    missed = releases and not all(release.loads for release in found.releases)
    refused = releases and any(release.not_run for release in found.releases)
    return 1 if missed or refused or not found.ok else 0
