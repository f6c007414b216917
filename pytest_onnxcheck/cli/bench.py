"""`onnxcheck bench`: artefacts and PyTorch, timed in turn."""

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
from pytest_onnxcheck.cli.progress import showing

if TYPE_CHECKING:
    from pytest_onnxcheck.api.benchmark import Benchmark

__all__ = ["bench"]


@click.command()
@click.option("--checkpoint", type=FILE, help="The weights, or the whole model.")
@click.option("--onnx", type=FILE, help="An artefact that exists; default: it is exported.")
@recipe_options
@variant_options
@click.option("--batch-size", type=click.IntRange(1), help="Default: the manifest's points.")
@click.option("--target", default="cpu", metavar="NAME", help="Default: cpu.")
@click.option(
    "--seconds", type=click.FloatRange(0.1, 600), help="Time for a point; default: the manifest's."
)
@json_option
def bench(checkpoint: Path | None, inputs: Any, as_data: bool, **options: Any) -> None:
    """Time artefacts and PyTorch in turn, one thread a side.

    The speed-up is the median over rounds of the ratio of two times, with its 99% interval.
    """
    from pytest_onnxcheck.api.benchmark import benchmark
    from pytest_onnxcheck.record.encoding import as_json

    with showing():
        found = benchmark(checkpoint, inputs=shapes(inputs), **options)
    if as_data:
        echo(as_json(found.to_json()), nl=False)
    else:
        _tell(found)


def _tell(found: Benchmark) -> None:
    echo(f"{found.model} on {found.target}")
    echo(f"  {'precision':<13} {'point':<12} {'median':>10} {'PyTorch':>10}  speed-up")
    for timed in found.timed:
        ratio = timed.measured.ratios["torch"]
        torch = timed.measured.torch.median * 1e3
        echo(
            f"  {timed.precision:<13} {timed.point:<12} {timed.milliseconds:>7.3g} ms "
            f"{torch:>7.3g} ms  {ratio.value:.2f} ({ratio.low:.2f}-{ratio.high:.2f})"
        )
