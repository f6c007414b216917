"""Judges a file as it was read back: what was exported, and what every artefact is held to."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.measurement import ExportMeasurement, FileCheck
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = ["export", "file_findings", "size_findings"]

_FAIL, _WARN = Grade.FAIL, Grade.WARN
#: what onnx's checker says where two values have one name
_TWICE = "has been used as output names multiple times"


def export(measured: ExportMeasurement, budget: Budget) -> Verdict:
    """Judges the exported file; the budget is that of the fp32 variant."""
    file = measured.file
    notes = (Finding(_WARN, "reference", note) for note in measured.notes)
    return Verdict.of([*file_findings(file), *size_findings(file, budget), *notes])


def file_findings(file: FileCheck) -> Iterator[Finding]:
    """Says what is wrong with a file: for onnx's checker and shape inference, and in its data."""
    if file.checker_error:
        text = f"the file is not valid ONNX: {file.checker_error}"
        if _TWICE in file.checker_error:
            text += (
                ". If that is an output of yours, the exporter gave a value inside the same name: "
                "call the output something else in the manifest, and in the export"
            )
        yield Finding(_FAIL, "onnx.checker", text, file.path)
    if file.inference_error:
        yield Finding(
            _FAIL,
            "shape inference",
            f"shapes or types contradict each other: {file.inference_error}",
            file.path,
        )
    if file.unsorted:
        yield Finding(
            _WARN,
            "onnx.checker",
            "nodes are not in topological order, which ONNX asks for: ONNX Runtime sorts them, "
            "other tools refuse the file. Sort it (onnx_ir.passes.common.TopologicalSortPass)",
            file.path,
        )
    for name, count in file.unread.items():
        yield Finding(
            _WARN,
            "external data",
            f"the last {count} bytes of {name!r} are read for no weight: the file may belong to "
            "another export. Ship the .onnx with the data it was written with",
            file.path,
        )


def size_findings(file: FileCheck, budget: Budget) -> Iterator[Finding]:
    """Holds a file's bytes to `max_size_mb`, and those to transfer to `max_transferred_mb`."""
    megabytes = file.size_bytes / 1e6
    if budget.max_size_mb is not None and megabytes > budget.max_size_mb:
        yield Finding(
            _FAIL,
            "size",
            f"{megabytes:.6g} MB on disk, allowed {budget.max_size_mb:g} (budget.max_size_mb)",
        )
    limit, found = budget.max_transferred_mb, file.transferred_bytes
    if limit is not None and found is not None and found > limit * 1e6:
        yield Finding(
            _FAIL,
            "size",
            f"{found / 1e6:.6g} MB to transfer (gzip), allowed {limit:g} "
            "(budget.max_transferred_mb): another precision is smaller",
        )
