"""`onnxcheck inspect`: what an `.onnx` holds."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_onnxcheck.cli.options import FILE, json_option
from pytest_onnxcheck.cli.printing import echo
from pytest_onnxcheck.cli.progress import columns

__all__ = ["inspect"]


@click.command(short_help="Show what an .onnx holds, leaks, and where it loads.")
@click.argument("model", type=FILE, metavar="MODEL.ONNX")
@click.option("--graph", is_flag=True, help="List the nodes too.")
@json_option
def inspect(model: Path, graph: bool, as_data: bool) -> int:
    """Show what an .onnx holds, and what of the build machine it leaks.

    Inputs, outputs, opsets, parameters, sizes, operators, metadata, hashes, and the oldest ONNX
    Runtime that loads it. Exits with 1 where its external data is not whole.
    """
    from pytest_onnxcheck.api.inspect import inspect as run
    from pytest_onnxcheck.record.encoding import as_json
    from pytest_onnxcheck.report.inspect import inspection_lines

    found = run(model)
    if as_data:
        echo(as_json(found.to_json(graph=graph)), nl=False)
    else:
        newest = found.newest_onnxruntime
        echo("\n".join(inspection_lines(found.contents, newest, width=columns(), graph=graph)))
    return 1 if found.contents.data_faults else 0
