"""How fast artefacts are beside PyTorch, timed as the gate does."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.api.recipe import Wanted, as_path, find_recipe, variants_of, with_batch
from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.manifest import Model, Variant
from pytest_onnxcheck.measurement import LatencyMeasurement
from pytest_onnxcheck.progress import stage

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.builds import Builds

__all__ = ["Benchmark", "Timed", "benchmark"]


@dataclass(frozen=True)
class Timed:
    """One artefact at one point.

    Attributes:
        precision: See `terms.Precision`.
        point: Id of the dims, e.g. `batch8`; empty without dims.
        measured: Times and ratios, with their intervals.
    """

    precision: str
    point: str
    measured: LatencyMeasurement

    @property
    def milliseconds(self) -> float:
        """The artefact's median time in ms."""
        return self.measured.onnxruntime.median * 1e3

    @property
    def speedup(self) -> float:
        """How many times as long PyTorch takes."""
        return self.measured.speedup


@dataclass(frozen=True)
class Benchmark:
    """What was timed of one model.

    Attributes:
        model: Its name.
        target: Where it ran.
        timed: The points, by precision.
    """

    model: str
    target: str
    timed: tuple[Timed, ...]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        found = dataclasses.asdict(self)
        for entry, timed in zip(found["timed"], self.timed, strict=True):
            entry |= {"milliseconds": timed.milliseconds, "speedup": timed.speedup}
        return found


def benchmark(
    checkpoint: Path | str | None = None,
    *,
    onnx: Path | str | None = None,
    manifest: Path | str | None = None,
    model: str | None = None,
    factory: str | None = None,
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    precisions: Sequence[str] = (),
    batch_size: int | None = None,
    exporter: str | None = None,
    opset: int | None = None,
    target: str = "cpu",
    seconds: float | None = None,
    trust: bool = False,
) -> Benchmark:
    """Times artefacts and PyTorch in turn, on one thread a side unless the manifest says more.

    Args:
        checkpoint: The weights, or the whole model; by default what the manifest's model has.
        onnx: An artefact that exists; by default the model is exported.
        manifest: A manifest that says how, see `export_model`.
        model: The model's name there.
        factory: What builds it, where there is no manifest.
        inputs: Shapes by input, likewise.
        precisions: Precisions to export; default: the recipe's.
        batch_size: Only this batch; default: the manifest's points.
        exporter: `dynamo` or `torchscript`.
        opset: The opset.
        target: Where the artefacts run.
        seconds: Time for a point; default: the manifest's.
        trust: Whether the checkpoint may run code when it is read: only for files of your own.

    Raises:
        OnnxCheckError: It cannot be built, or does not run on the target.
    """
    from pytest_onnxcheck.engine.builds import Builds

    given = as_path(onnx)
    wanted = Wanted(batch_size, opset, exporter, precisions)
    recipe = find_recipe(
        checkpoint,
        manifest=manifest,
        model=model,
        factory=factory,
        inputs=inputs,
        onnx=given,
        trust=trust,
    )
    chosen = with_batch(recipe.model, wanted)
    if target not in chosen.declared:
        raise OnnxCheckError(f"no target {target!r}; there are: {', '.join(chosen.declared)}")
    if seconds is not None:
        latency = chosen.latency.model_copy(update={"seconds": seconds, "longest": seconds})
        chosen = dataclasses.replace(chosen, latency=latency)
    if given is not None:
        precision = precisions[0] if precisions else "fp32"
        variants = [chosen.make_variant("file", None, precision, str(given.absolute()))]
    else:
        variants = variants_of(chosen, wanted)
    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        timed = tuple(_timed(Builds(Path(folder)), chosen, variants, target, batch_size))
    return Benchmark(chosen.name, target, timed)


def _timed(
    builds: Builds,
    model: Model,
    variants: Sequence[Variant],
    target: str,
    batch_size: int | None,
) -> Iterator[Timed]:
    from pytest_onnxcheck.engine.checks import latency

    reference = builds.reference(model)
    points = model.latency_points()
    if batch_size is not None:
        first = {dim: values[0] for dim, values in model.dims.items()}
        points = {f"{next(iter(first))}{batch_size}": first}
    for variant in variants:
        source = builds.float_artefact(reference, variant)
        artefact = builds.artefact(reference, variant)
        for point, dims in points.items():
            with stage("timing", model.name, variant.name, *filter(None, [point])):
                on = model.target(target)
                measured, _ = latency.measure(artefact, source, reference, on, dims)
            yield Timed(variant.precision, point, measured)
