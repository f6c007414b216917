"""What became of the float artefact: how much carries the precision, how large the file is."""

from __future__ import annotations

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.checker import check_file
from pytest_onnxcheck.engine.graph.coverage import InferredGraph, converted, coverage
from pytest_onnxcheck.engine.graph.lost_weights import lost_weights
from pytest_onnxcheck.engine.inputs.cases import example, example_dims
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.sizes import shape_at
from pytest_onnxcheck.measurement import QuantizationMeasurement

__all__ = ["measure"]


def measure(
    artefact: Artefact, float_artefact: Artefact, reference: Reference, variant: Variant
) -> QuantizationMeasurement:
    """Counts what carries the precision, and what could but does not.

    Multiply-accumulates are counted with `example_dims`, or an own case where nothing is drawn.
    """
    values = InferredGraph.read(artefact.path, _example_shapes(reference))
    carrying, remaining = converted(values, variant.precision)
    alone = variant.file is not None and all(
        entry.precision != "fp32" for entry in reference.model.variants
    )
    limited = variant.budget.max_transferred_mb is not None
    clipped, vanished = lost_weights(artefact.path, float_artefact.path, variant.precision)
    return QuantizationMeasurement(
        file=check_file(artefact, transferred=limited),
        precision=variant.precision,
        float_bytes=None if alone else float_artefact.size_bytes,
        converted=sum(carrying.values()),
        converted_kinds=dict(carrying),
        remaining=dict(remaining),
        calibration=artefact.notes.calibration,
        seconds=artefact.seconds,
        options=artefact.notes.options,
        coverage=coverage(values, variant.precision),
        identical=not alone and artefact.sha256 == float_artefact.sha256,
        clipped=clipped,
        vanished=vanished,
        checkpoint_bytes=reference.checkpoint_bytes,
    )


def _example_shapes(reference: Reference) -> dict[str, tuple[int, ...]]:
    if not reference.model.draws:
        return {name: array.shape for name, array in example(reference).items()}
    dims = example_dims(reference.model)
    return {name: shape_at(shape, dims) for name, shape in reference.shapes.items()}
