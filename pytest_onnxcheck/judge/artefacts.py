"""Judges the files: export and quantization."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import ExportMeasurement, FileCheck, QuantizationMeasurement
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = ["export", "quantization"]

_FAIL, _WARN, _PASS = Grade.FAIL, Grade.WARN, Grade.PASS


def export(measured: ExportMeasurement, budget: s.Budget) -> Verdict:
    """Judges the exported file; the budget is that of the fp32 variant."""
    notes = (Finding(_WARN, "reference", note) for note in measured.notes)
    return Verdict.of([*_file(measured.file), *_bytes(measured.file, budget), *notes])


def _file(file: FileCheck) -> Iterator[Finding]:
    if file.checker_error:
        yield Finding(
            _FAIL, "onnx.checker", f"the file is not valid ONNX: {file.checker_error}", file.path
        )
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


def quantization(measured: QuantizationMeasurement, budget: s.Budget) -> Verdict:
    """Judges what became of the float artefact."""
    return Verdict.of([*_file(measured.file), *_converted(measured), *_size(measured, budget)])


def _converted(measured: QuantizationMeasurement) -> Iterator[Finding]:
    if measured.converted:
        return
    remaining = ", ".join(f"{count} {op}" for op, count in measured.remaining.items())
    yield Finding(
        _FAIL,
        f"precision {measured.precision}",
        f"nothing was quantized: the artefact holds no {measured.precision} "
        f"{'tensor' if measured.precision == 'fp16' else 'node'} "
        f"(left in float: {remaining or 'no operator that could be'}). "
        "Drop this precision from the model, or choose one that covers its operators "
        "(int8-static for convolutions, int8-dynamic for MatMul and Gemm)",
    )


def _size(measured: QuantizationMeasurement, budget: s.Budget) -> Iterator[Finding]:
    ratio = measured.size_ratio
    if budget.max_size_ratio is not None and ratio is None:
        yield Finding(
            _FAIL,
            "size ratio",
            "cannot be measured, there is no fp32 artefact to compare with (budget.max_size_ratio):"
            " name one in onnx = { fp32 = ... }, or use max_size_mb",
        )
    elif budget.max_size_ratio is not None and ratio is not None and ratio > budget.max_size_ratio:
        yield Finding(
            _FAIL,
            "size ratio",
            f"{ratio:.3f} of the fp32 artefact's {measured.float_bytes} bytes, "
            f"allowed {budget.max_size_ratio:g} (budget.max_size_ratio)",
        )
    yield from _bytes(measured.file, budget)


def _bytes(file: FileCheck, budget: s.Budget) -> Iterator[Finding]:
    megabytes = file.size_bytes / 1e6
    if budget.max_size_mb is not None and megabytes > budget.max_size_mb:
        yield Finding(
            _FAIL,
            "size",
            f"{megabytes:.2f} MB on disk, allowed {budget.max_size_mb:g} (budget.max_size_mb)",
        )
