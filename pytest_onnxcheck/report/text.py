"""The text of a failed check: what broke, where and how badly, in one screen."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_onnxcheck.manifest.sections import METRICS
from pytest_onnxcheck.measurement import (
    EquivalenceMeasurement,
    LatencyMeasurement,
    OutputMeasurement,
    QuantizationMeasurement,
)
from pytest_onnxcheck.verdict import Grade, Verdict

__all__ = ["failure_text", "junit_properties"]

_MOST_FINDINGS = 8


def failure_text(model: str, variant: str, verdict: Verdict, measurement: object) -> str:
    """The message of a failed check.

    Args:
        model: Name of the model.
        variant: Name of the variant.
        verdict: What failed.
        measurement: What was measured, for the details.
    """
    failed, warned = verdict.graded(Grade.FAIL), verdict.graded(Grade.WARN)
    # the first line stands alone in pytest's short summary
    lines = [str(failed[0]), ""]
    target = getattr(measurement, "target", None)
    lines.append(f"  {model} · {variant}{f' · {target}' if target else ''}")
    lines += [f"  FAIL {finding}" for finding in failed[1:_MOST_FINDINGS]]
    if len(failed) > _MOST_FINDINGS:
        lines.append(f"  … and {len(failed) - _MOST_FINDINGS} more failures, all in the record")
    lines += [f"  warn {finding}" for finding in warned[:2]]
    if isinstance(measurement, EquivalenceMeasurement):
        lines += _worst_output(measurement)
    return "\n".join(lines)


def junit_properties(verdict: Verdict, measurement: object) -> list[tuple[str, object]]:
    """The numbers worth a JUnit property: grade, worst error, size, speed-up."""
    properties: list[tuple[str, object]] = [("onnxcheck_grade", str(verdict.grade))]
    if isinstance(measurement, EquivalenceMeasurement):
        properties.append(("onnxcheck_max_abs", measurement.worst()))
    elif isinstance(measurement, QuantizationMeasurement):
        properties.append(("onnxcheck_size_bytes", measurement.file.size_bytes))
    elif isinstance(measurement, LatencyMeasurement):
        properties.append(("onnxcheck_speedup", round(measurement.speedup, 4)))
    return properties


def _worst_output(measured: EquivalenceMeasurement) -> Iterator[str]:
    """The numbers of the output that differs most, with its worst elements."""
    outputs = [
        (output, case.case) for case in measured.cases for output in case.outputs if output.worst
    ]
    if not outputs:
        return
    output, case = max(outputs, key=lambda pair: (pair[0].nonfinite, pair[0].max_abs or 0.0))
    yield ""
    yield (
        f"  worst: output {output.name!r} {list(output.expected_shape)} "
        f"{output.expected_dtype}, case {case}"
    )
    yield f"    {_metrics(output)}"
    rows = [("index", "PyTorch", "ONNX", "difference")] + [
        (
            str(list(element.index)),
            _value(element.expected),
            _value(element.actual),
            f"{element.actual - element.expected:.3g}",
        )
        for element in output.worst
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row in rows:
        yield "    " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))


def _value(value: float | int) -> str:
    # integers are exact: every digit of theirs counts
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def _metrics(output: OutputMeasurement) -> str:
    shown = [
        f"{name} {value:.6g}" for name in METRICS if (value := getattr(output, name)) is not None
    ]
    if output.nonfinite:
        shown.insert(0, f"NaN/infinity differ in {output.nonfinite} of {output.elements}")
    return ", ".join([*shown, f"max |PyTorch| {output.scale:.6g}"])
