"""Export: the file as it lies on disk, and how it was made."""

from __future__ import annotations

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.checker import check_file
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.libraries import library_hashes
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.measurement import ExportMeasurement

__all__ = ["measure"]


def measure(artefact: Artefact, reference: Reference, variant: Variant) -> ExportMeasurement:
    """Re-loads the exported file and checks it."""
    limited = variant.precision == "fp32" and variant.budget.max_transferred_mb is not None
    return ExportMeasurement(
        file=check_file(artefact, transferred=limited),
        exporter=variant.exporter,
        opset=variant.opset,
        seconds=artefact.seconds,
        cached=artefact.cached,
        checkpoint_sha256=reference.checkpoint_sha256,
        notes=(*reference.notes, *artefact.notes.traced),
        libraries=library_hashes(reference.model.operator_libraries),
    )
