"""The text of a failed check: what broke, where and how badly, in one screen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pytest_onnxcheck.manifest.sections import METRICS
from pytest_onnxcheck.measurement import (
    AccuracyMeasurement,
    Diagnosis,
    Divergence,
    EquivalenceMeasurement,
    FloorMeasurement,
    HeldTo,
    LatencyMeasurement,
    MutantOutcome,
    MutationMeasurement,
    OutputMeasurement,
    QuantizationMeasurement,
    SensitivityMeasurement,
    Step,
)
from pytest_onnxcheck.report.layout import wrapped
from pytest_onnxcheck.verdict import Grade, Limit, Verdict
from pytest_onnxcheck.wording import listed, one_line, several

__all__ = [
    *(
        "allowed",
        "element_rows",
        "failure_text",
        "headline",
        "held_to",
        "junit_properties",
        "metrics",
    ),
    *("survivor", "worst_output"),
]


class _AsIs(str):
    """A line that is not wrapped: to be copied, or in columns."""

    __slots__ = ()


_MOST_FINDINGS = 8

_MOST_WARNINGS = 2

#: failing cases of one artefact are usually alike
_MOST_CASES = 4


def headline(verdict: Verdict) -> str:
    """The worst finding with its numbers first: of a short summary's line little else is left."""
    worst = verdict.findings[0]
    return one_line(f"{worst.text} ({worst.what})")


def allowed(limit: Limit) -> str:
    """A limit in words, e.g. `≤ 0.15, fails beyond 0.35`."""
    sign = "≥" if limit.larger_is_better else "≤"
    beyond = "" if limit.fails == limit.passes else f", fails beyond {limit.fails:g}"
    return f"{sign} {limit.passes:g}{beyond}"


def failure_text(
    model: str,
    variant: str,
    verdict: Verdict,
    measurement: object,
    *,
    width: int | None = None,
    whole: bool = False,
) -> str:
    """The message of a failed check.

    Args:
        model: Name of the model.
        variant: Name of the variant.
        verdict: What failed.
        measurement: What was measured, for the details.
        width: Characters a line; default: as long as they are.
        whole: Whether every finding is told, rather than what fits on a screen.
    """
    lines: list[str] = []
    for line in _lines(model, variant, verdict, measurement, whole=whole):
        if width is None or isinstance(line, _AsIs):
            lines.append(line)
        else:
            text = line.lstrip(" ")
            indent = line[: len(line) - len(text)]
            lines += wrapped(text, width, indent, f"{indent}  ")
    return "\n".join(lines)


def _lines(
    model: str, variant: str, verdict: Verdict, measurement: object, *, whole: bool
) -> Iterator[str]:
    failed, warned = verdict.graded(Grade.FAIL), verdict.graded(Grade.WARN)
    equivalence = isinstance(measurement, EquivalenceMeasurement)
    most = _MOST_CASES if equivalence else _MOST_FINDINGS
    most, most_warned = (len(failed), len(warned)) if whole else (most, _MOST_WARNINGS)
    # the first line stands alone in pytest's short summary
    yield from (str(failed[0]), "")
    target = getattr(measurement, "target", None)
    yield f"  {model} · {variant}{f' · {target}' if target else ''}"
    if isinstance(measurement, EquivalenceMeasurement) and measurement.held_to is not None:
        yield f"  {held_to(measurement.held_to)}"
    # what belongs to no single case explains the cases: it is not to be crowded out by them
    others = sorted(failed[1:], key=lambda finding: finding.where != "")
    yield from (f"  FAIL {finding}" for finding in others[: most - 1])
    if len(failed) > most:
        yield f"  … and {len(failed) - most} more failures, all in the record"
    yield from (f"  warn {finding}" for finding in warned[:most_warned])
    if isinstance(measurement, EquivalenceMeasurement):
        yield from _output(measurement, failed[0].where)
        yield from _diagnosis(measurement.diagnosis)
    if isinstance(measurement, MutationMeasurement):
        for mutant in measurement.mutants:
            if mutant.result == "survived":
                yield f"  survived: {survivor(mutant)}"


def held_to(found: HeldTo) -> str:
    """How many cases, probes, sizes and perturbed runs it was held to, and why to no more."""
    counts = [_number(found.cases, "case")]
    if found.probes:
        of_sizes = " of sizes" if found.unprobed else ""
        counts.append(f"{_number(found.probes, 'probe')}{of_sizes}")
    if found.sizes:
        counts.append(_number(found.sizes, "size"))
    text = f"held to {listed(counts)}"
    if found.unprobed:
        none = "to none of values" if found.probes else "no probes"
        text += f", {none}: {found.unprobed}"
    if found.skipped:
        left_out = several([f"{it.name!r} ({it.reason})" for it in found.skipped], 2)
        text += f"; without {left_out}, left out by skip_probes"
    if found.perturbed_runs:
        text += f"; noise floors from {_number(found.perturbed_runs, 'perturbed run')}"
    return text


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'s' * (count != 1)}"


def survivor(mutant: MutantOutcome) -> str:
    """A fault that nothing noticed, with how far it moved the outputs."""
    moved = "" if mutant.ratio is None else f" ({mutant.ratio:.3g} noise floors)"
    return f"{mutant.operator}: {mutant.description}{moved}"


def junit_properties(verdict: Verdict, measurement: object) -> list[tuple[str, object]]:
    """The numbers worth a JUnit property: grade, worst error, size, coverage, speed-up."""
    properties: list[tuple[str, object]] = [("onnxcheck_grade", str(verdict.grade))]
    known: list[tuple[str, float | None]] = []
    if isinstance(measurement, EquivalenceMeasurement):
        properties.append(("onnxcheck_max_abs", measurement.max_abs))
        known.append(("onnxcheck_sqnr_db", measurement.sqnr_db))
        if (held := measurement.held_to) is not None:
            properties.append(("onnxcheck_cases", held.cases))
            properties.append(("onnxcheck_probes", held.probes))
            properties.append(("onnxcheck_sizes", held.sizes))
    elif isinstance(measurement, QuantizationMeasurement):
        properties.append(("onnxcheck_size_bytes", measurement.file.size_bytes))
        covered = measurement.coverage
        known.append(("onnxcheck_size_ratio", measurement.size_ratio))
        known.append(("onnxcheck_coverage", None if covered is None else covered.compute))
    elif isinstance(measurement, LatencyMeasurement):
        properties.append(("onnxcheck_speedup", round(measurement.speedup, 4)))
        known.append(("onnxcheck_speedup_over_fp32", measurement.speedup_over_fp32))
    elif isinstance(measurement, AccuracyMeasurement):
        properties.append(("onnxcheck_accuracy_drop", round(measurement.drop, 6)))
    elif isinstance(measurement, MutationMeasurement):
        properties.append(("onnxcheck_mutation_score", measurement.score))
    return properties + [(name, round(value, 4)) for name, value in known if value is not None]


def _output(measured: EquivalenceMeasurement, failing: str) -> Iterator[str]:
    """The numbers of the output that differs most in the failing case, with its worst elements."""
    found = worst_output(measured, failing)
    if found is None:
        return
    output, case = found
    yield ""
    yield f"  output {output.name!r} {list(output.expected_shape)} {output.expected_dtype}, {case}"
    if output.floor is not None:
        yield from _floor(output, output.floor)
    yield f"    {metrics(output)}"
    yield from _table(element_rows(output), "    ")


def element_rows(output: OutputMeasurement) -> list[tuple[str, ...]]:
    """The elements that differ most, behind a header."""
    return [
        ("index", "PyTorch", "ONNX", "difference"),
        *(
            (
                str(list(element.index)),
                _value(element.expected),
                _value(element.actual),
                f"{element.actual - element.expected:.3g}",
            )
            for element in output.worst
        ),
    ]


def worst_output(
    measured: EquivalenceMeasurement, failing: str = ""
) -> tuple[OutputMeasurement, str] | None:
    """The output that differs most, and its case; None where no elements were compared.

    Args:
        measured: The cases.
        failing: Only in this case; default: in any.
    """
    named = measured.case(failing)
    cases = measured.cases if not failing else () if named is None else (named,)
    outputs = [(output, case.case) for case in cases for output in case.outputs if output.worst]
    return max(outputs, key=_badness, default=None)


def _badness(pair: tuple[OutputMeasurement, str]) -> tuple[float, ...]:
    output = pair[0]
    ratio = output.floor.ratio if output.floor is not None else 0.0
    return output.nonfinite, ratio, output.max_abs or 0.0


def _floor(output: OutputMeasurement, floor: FloorMeasurement) -> Iterator[str]:
    if not floor.ratio and output.nonfinite:
        yield f"    the other {output.elements - output.nonfinite} elements agree"
        return
    yield f"    {floor.outside:.1%} of {output.elements} elements outside"
    yield from _table(
        [
            ("", "worst", "root mean square"),
            ("error", f"{floor.error_worst:.3g}", f"{floor.error_rms:.3g}"),
            ("noise floor", f"{floor.floor_worst:.3g}", f"{floor.floor_rms:.3g}"),
        ],
        "    ",
    )
    yield (
        f"    {floor.ratio:.3g} floors (from {floor.source}); a fixed tolerance would have to "
        f"allow {output.max_abs or 0.0:.3g}"
    )


def _diagnosis(found: Diagnosis | None) -> Iterator[str]:
    """Whose fault it is, where, and how to see it again."""
    if found is None:
        return
    yield ""
    yield f"  guilty stage: {found.stage or _nobody(found.steps)}"
    if found.steps:
        lines = _table([_step(step) for step in found.steps], "    ", left=True)
        for line, step in zip(lines, found.steps, strict=True):
            yield line
            if step.note:
                yield f"      {step.note}"
    if found.divergence is not None:
        yield from _divergence(found.divergence)
    if found.losses:
        yield "  layers that lose most (signal to quantization noise):"
        yield from _table(
            [(f"{loss.sqnr_db:.1f} dB", loss.operator, loss.value) for loss in found.losses[:5]],
            "    ",
            left=True,
        )
    if found.sensitivity is not None:
        yield from _sensitivity(found.sensitivity)
    yield from (f"  note: {note}" for note in found.notes)
    if found.repro is not None:
        yield _AsIs(f"  reproduce: {found.repro}")


def _sensitivity(found: SensitivityMeasurement) -> Iterator[str]:
    """Which nodes lose most by themselves, and what leaving them in float does."""
    if found.layers:
        losses = [f"{loss.value} ({loss.operator}) {loss.sqnr_db:.1f} dB" for loss in found.layers]
        yield f"  nodes by their own loss: {', '.join(losses[:5])}" + (", …" * (len(losses) > 5))
    if not found.tried:
        return
    last = found.tried[-1]
    error = "" if last.rel_rms is None else f"rel_rms {last.rel_rms:.3g}, "
    facts = f"{error}{last.size_ratio:.2f} of the fp32 bytes"
    if found.toml is None:
        did = "will not do" if found.complete else "did not do, and the time was over"
        yield f"  leaving {len(last.nodes)} nodes in float {did} ({facts}): {last.problem}"
        return
    smallest = "" if found.complete else "; fewer may do, but the time was over"
    yield f"  with these left in float it no longer fails ({facts}{smallest}):"
    yield from (_AsIs(f"    {line}") for line in found.toml.splitlines())


def _nobody(steps: Sequence[Step]) -> str:
    if steps and all(step.agrees in (True, None) for step in steps):
        return "none, every step is right to within rounding: the tolerance is tighter than that"
    return "could not be told"


def _step(step: Step) -> tuple[str, ...]:
    agrees = {True: "agrees", False: "DIFFERS", None: "not run"}[step.agrees]
    ratio = "" if step.ratio is None else f"{step.ratio:.3g} {step.unit}"
    return step.name, agrees, ratio


def _divergence(found: Divergence) -> Iterator[str]:
    yield f"  first divergence: {found.operator} node {found.node!r} (value {found.value!r})"
    place = ", ".join(part for part in (found.module, found.torch_operator, found.source) if part)
    if place:
        yield f"    in PyTorch: {place}"
    if found.ratio is not None:
        inside = ", while its inputs are inside theirs" if found.inputs_inside else ""
        yield f"    {found.ratio:.3g} floors{inside}"
    if found.note:
        yield f"    {found.note}"


def _table(rows: Sequence[Sequence[str]], indent: str, *, left: bool = False) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if left else cell.rjust(width)
            for cell, width in zip(row, widths, strict=True)
        ]
        line = (indent + "  ".join(cells)).rstrip()
        yield line if left else _AsIs(line)


def _value(value: float | int) -> str:
    # integers are exact: every digit of theirs counts
    return f"{value:.8g}" if isinstance(value, float) else str(value)


def metrics(output: OutputMeasurement) -> str:
    """Every metric that was measured, and how large PyTorch's output is."""
    shown = [
        f"{name} {value:.6g}" for name in METRICS if (value := getattr(output, name)) is not None
    ]
    if output.nonfinite:
        shown.insert(0, f"NaN/infinity differ in {output.nonfinite} of {output.elements}")
    return ", ".join([*shown, f"max |PyTorch| {output.scale:.6g}"])
