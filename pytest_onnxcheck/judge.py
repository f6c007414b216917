"""Measurement against tolerance or budget gives a verdict. Pure: no model runs here."""

from __future__ import annotations

import math
from collections.abc import Iterator

from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    EquivalenceMeasurement,
    ExportMeasurement,
    FileCheck,
    FloorMeasurement,
    LatencyMeasurement,
    MutationMeasurement,
    OutputMeasurement,
    QuantizationMeasurement,
    StructureMeasurement,
    TensorSpec,
)
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = [
    "VACUOUS",
    "equivalence",
    "export",
    "latency",
    "mutation",
    "problem",
    "quantization",
    "structure",
]

#: An output no larger than this on any case says nothing about the artefact: whatever is compared
#: with it agrees. Randomly initialised MobileNets give 1e-31.
VACUOUS = 1e-12

#: A floor that is this part of the output hides everything.
_BLIND = 8.0

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


def structure(measured: StructureMeasurement) -> Verdict:
    """Judges the input/output contract and the operators."""
    return Verdict.of(
        [
            *_contract("input", measured.expected_inputs, measured.inputs),
            *_contract("output", measured.expected_outputs, measured.outputs),
            *_graph(measured),
        ]
    )


def _contract(
    kind: str, expected: tuple[TensorSpec, ...], actual: tuple[TensorSpec, ...]
) -> Iterator[Finding]:
    wanted = [spec.name for spec in expected]
    found = [spec.name for spec in actual]
    for name in wanted:
        if name not in found:
            yield Finding(
                _FAIL,
                f"{kind} {name!r}",
                f"declared in the manifest but not in the artefact, which has {found}: "
                f"callers that use the name get an error",
            )
    for name in found:
        if name not in wanted:
            yield Finding(
                _FAIL, f"{kind} {name!r}", f"in the artefact but not declared, which has {wanted}"
            )
    if sorted(wanted) == sorted(found) and wanted != found:
        yield Finding(_FAIL, f"{kind}s", f"order is {found}, declared {wanted}")
    by_name = {spec.name: spec for spec in actual}
    for spec in expected:
        if spec.name in by_name:
            yield from _tensor(kind, spec, by_name[spec.name])


def _tensor(kind: str, expected: TensorSpec, actual: TensorSpec) -> Iterator[Finding]:
    what = f"{kind} {expected.name!r}"
    if expected.dtype != actual.dtype:
        yield Finding(_FAIL, what, f"dtype is {actual.dtype}, declared {expected.dtype}")
    if actual.shape is None:
        yield Finding(_WARN, what, f"the artefact declares no shape, declared {expected.shape}")
        return
    assert expected.shape is not None
    if len(expected.shape) != len(actual.shape):
        yield Finding(
            _FAIL,
            what,
            f"rank is {len(actual.shape)} {_shown(actual)}, "
            f"declared {len(expected.shape)} {_shown(expected)}",
        )
        return
    for axis, (want, have) in enumerate(zip(expected.shape, actual.shape, strict=True)):
        if isinstance(want, str) and isinstance(have, int):
            yield Finding(
                _FAIL,
                what,
                f"dim {axis} ({want!r}) is static: {have} in {_shown(actual)}, declared dynamic "
                f"{_shown(expected)}. The model turns the size into a constant while it is "
                "exported; look for int(x.shape[...]), python arithmetic on sizes, or a fixed view",
            )
        elif isinstance(want, int) and have != want:
            # an unnamed dynamic dim where a fixed size is declared is a looser contract
            grade = _FAIL if isinstance(have, int) else _WARN
            yield Finding(
                grade, what, f"dim {axis} is {have!r} in {_shown(actual)}, declared {want}"
            )


def _shown(spec: TensorSpec) -> str:
    return f"[{', '.join('?' if dim is None else str(dim) for dim in spec.shape or ())}]"


def _graph(measured: StructureMeasurement) -> Iterator[Finding]:
    if measured.expected_opset is not None and measured.opset != measured.expected_opset:
        yield Finding(
            _FAIL,
            "opset",
            f"the artefact declares {measured.opset}, asked for {measured.expected_opset}",
        )
    if not measured.nodes and measured.outputs:
        yield Finding(_WARN, "graph", "it has no nodes: outputs are inputs or constants")
    for node in measured.training:
        yield Finding(
            _FAIL,
            node,
            "is in training mode: outputs are random or follow the batch. "
            "Call model.eval() before the export",
        )
    for node in measured.random:
        yield Finding(_FAIL, node, "draws random numbers: the same inputs give other outputs")
    for name in measured.unused_inputs:
        ignored = name in measured.ignored_inputs
        yield Finding(
            _WARN if ignored else _FAIL,
            f"input {name!r}",
            "declared but read by no node: the artefact ignores what callers feed"
            + ("; so does PyTorch" if ignored else ""),
        )
    for name in measured.unreached_outputs:
        yield Finding(
            _FAIL, f"output {name!r}", "depends on no input: it was folded into a constant"
        )


def problem(
    measured: StructureMeasurement | EquivalenceMeasurement, tolerance: s.Tolerance
) -> str | None:
    """The worst failure of a structure or of cases, in one line; None when there is none."""
    if isinstance(measured, StructureMeasurement):
        verdict = structure(measured)
    else:
        verdict = equivalence(measured, tolerance)
    return verdict.reason if verdict.grade is _FAIL else None


def equivalence(measured: EquivalenceMeasurement, tolerance: s.Tolerance) -> Verdict:
    """Judges every output of every case."""
    findings = [finding for case in measured.cases for finding in _case(case, tolerance)]
    notes = [Finding(_WARN, "reference", note) for note in measured.notes]
    if measured.no_float64 and tolerance.policy == "noise-floor":
        notes.append(
            Finding(
                _WARN,
                "reference",
                f"does not run in float64 ({measured.no_float64}): the noise floor is measured "
                "by perturbed runs in float32",
            )
        )
    return Verdict.of([*findings, *_uncompared(measured), *_vacuous(measured), *notes])


def _uncompared(measured: EquivalenceMeasurement) -> Iterator[Finding]:
    compared = sum(output.elements for case in measured.cases for output in case.outputs)
    if not compared and not any(case.error for case in measured.cases):
        yield Finding(
            _FAIL, "outputs", f"nothing was compared: {len(measured.cases)} cases, no elements"
        )


def _case(case: CaseMeasurement, tolerance: s.Tolerance) -> Iterator[Finding]:
    found: list[tuple[Grade, str, str]] = []
    if case.error is not None:
        found.append((_FAIL, "run", case.error))
    for output in case.outputs:
        for grade, what, text in _output(output, tolerance, case.probe):
            if output.undefined and grade is _FAIL and what not in ("dtype", "shape"):
                grade = _WARN
                text += "; no failure, since PyTorch itself gives NaN or infinity on this probe"
            found.append((grade, f"output {output.name!r} {what}", text))
    for grade, what, text in found:
        if case.lenient and grade is _FAIL:
            yield Finding(_WARN, what, f"{text}; no failure, since {case.lenient}", case.case)
        else:
            yield Finding(grade, what, text, case.case)


def _output(
    output: OutputMeasurement, tolerance: s.Tolerance, probe: bool
) -> Iterator[tuple[Grade, str, str]]:
    if output.expected_dtype != output.actual_dtype:
        yield _FAIL, "dtype", f"{output.actual_dtype}, PyTorch gives {output.expected_dtype}"
    if output.expected_shape != output.actual_shape:
        yield (
            _FAIL,
            "shape",
            f"{list(output.actual_shape)}, PyTorch gives {list(output.expected_shape)}",
        )
        return
    if output.swapped_with is not None:
        yield _FAIL, "values", f"are those of output {output.swapped_with!r}: outputs are mixed up"
    yield from _nonfinite(output, probe)
    yield from _range(output)
    yield from _noise(output, tolerance)
    yield from _metrics(output, tolerance)


def _nonfinite(output: OutputMeasurement, probe: bool) -> Iterator[tuple[Grade, str, str]]:
    floor = output.floor
    differ = output.nonfinite if floor is None else floor.nonfinite
    if differ:
        yield (
            _FAIL,
            "NaN or infinity",
            f"{differ} of {output.elements} elements are NaN or infinite on one side "
            "only, or with another sign",
        )
    elif output.nonfinite:
        yield (
            _WARN,
            "NaN or infinity",
            f"{output.nonfinite} of {output.elements} elements are NaN or infinite on one side "
            "only, which rounding alone does to them",
        )
    if output.expected_nan and not probe and not output.given_nan:
        yield (
            _WARN,
            "NaN",
            f"PyTorch itself gives NaN in {output.expected_nan} of {output.elements} elements, "
            "of which only the place is compared: the model or the case is wrong",
        )


def _noise(output: OutputMeasurement, tolerance: s.Tolerance) -> Iterator[tuple[Grade, str, str]]:
    floor, safety = output.floor, tolerance.safety
    if tolerance.policy != "noise-floor" or floor is None or safety is None:
        return
    if floor.ratio <= safety:
        return
    text = (
        f"{floor.ratio:.3g} noise floors, allowed {safety:g}: worst {floor.error_worst:.3g} "
        f"against {floor.floor_worst:.3g}, root mean square {floor.error_rms:.3g} against "
        f"{floor.floor_rms:.3g}"
    )
    if floor.torch_worst > floor.error_worst:
        text += f"; PyTorch's own error is larger ({floor.torch_worst:.3g})"
    yield _FAIL, "error", text


def _range(output: OutputMeasurement) -> Iterator[tuple[Grade, str, str]]:
    if output.expected_outside_range:
        yield (
            _FAIL,
            "range",
            f"PyTorch itself gives {output.expected_outside_range:.2%} of the elements outside the "
            "declared range: the declaration or the model is wrong",
        )
    elif output.outside_range:
        yield (
            _FAIL,
            "range",
            f"{output.outside_range:.2%} of the elements are outside the declared range",
        )


def _metrics(output: OutputMeasurement, tolerance: s.Tolerance) -> Iterator[tuple[Grade, str, str]]:
    exact = not output.expected_dtype.startswith("float")
    if exact:
        if output.differing:
            yield _exact(output)
        return
    for metric, larger_is_better in s.METRICS.items():
        bounds, value = getattr(tolerance, metric), getattr(output, metric)
        if not isinstance(bounds, s.Bounds) or value is None:
            continue
        grade = _graded(value, bounds, larger_is_better)
        if grade is not _PASS:
            sign = "at least" if larger_is_better else "at most"
            allowed = f"pass is {sign} {bounds.passes:g}, fail beyond {bounds.fails:g}"
            yield grade, metric, f"{_beside(value, bounds)}, {allowed}"
    if output.outside_allclose:
        yield (
            _FAIL,
            "allclose",
            f"{output.outside_allclose:.2%} of the elements are outside "
            f"atol {tolerance.atol:g} + rtol {tolerance.rtol:g} x |PyTorch|",
        )


def _exact(output: OutputMeasurement) -> tuple[Grade, str, str]:
    # where the artefact gives floats, all of them may be NaN
    most = "" if output.max_abs is None else f", by up to {output.max_abs:g}"
    text = (
        f"differ in {output.differing} of {output.elements} elements{most}; "
        f"{output.expected_dtype} outputs are exact"
    )
    if output.tied < output.differing:
        return _FAIL, "values", text
    return (
        _WARN,
        "values",
        f"{text}, but the floats that decide these tie: PyTorch itself gives other values when its "
        f"arithmetic is moved by {output.margin:g} rounding{'s' * (output.margin != 1)}",
    )


def _beside(value: float, bounds: s.Bounds) -> str:
    """The value in six digits, or in as many as tell it from its bounds."""
    shown = f"{value:.6g}"
    return repr(value) if float(shown) in (bounds.passes, bounds.fails) else shown


def _graded(value: float, bounds: s.Bounds, larger_is_better: bool) -> Grade:
    if math.isnan(value):
        return _FAIL
    sign = -1.0 if larger_is_better else 1.0
    if sign * value <= sign * bounds.passes:
        return _PASS
    return _FAIL if sign * value > sign * bounds.fails else _WARN


def _vacuous(measured: EquivalenceMeasurement) -> Iterator[Finding]:
    scales: dict[str, float] = {}
    for case in measured.cases:
        for output in case.outputs:
            if output.elements:
                scales[output.name] = max(scales.get(output.name, 0.0), output.scale)
    yield from _unchecked(measured)
    for name, scale in scales.items():
        if scale <= VACUOUS:
            yield Finding(
                _WARN,
                f"output {name!r}",
                f"vacuous: |PyTorch| is at most {scale:.3g} in every case, so that whatever is "
                "compared with it agrees. Use a trained checkpoint, or calibrate BatchNorm",
            )


def _unchecked(measured: EquivalenceMeasurement) -> Iterator[Finding]:
    """Outputs whose floor leaves nothing to compare in any case."""
    floors: dict[str, list[tuple[OutputMeasurement, FloorMeasurement]]] = {}
    for case in measured.cases:
        for output in case.outputs:
            if output.floor is not None and output.scale > VACUOUS:
                floors.setdefault(output.name, []).append((output, output.floor))
    for name, found in floors.items():
        if all(floor.unstable == output.elements for output, floor in found):
            yield Finding(
                _FAIL,
                f"output {name!r}",
                "nothing was compared: in every case rounding alone, or float64 in place of "
                "float32, makes all its elements finite or not",
            )
        elif all(_BLIND * floor.floor_worst >= output.scale for output, floor in found):
            yield Finding(
                _WARN,
                f"output {name!r}",
                "vacuous: in every case rounding alone may move it by its own size, so that "
                "almost anything agrees with it. The model is ill-conditioned, or behaves "
                "differently in float64",
            )


def mutation(measured: MutationMeasurement, minimum: float | None) -> Verdict:
    """Judges how many injected faults the checks notice.

    Args:
        measured: What became of the mutants.
        minimum: Smallest score allowed; None only tells it.
    """
    score = measured.score
    if score is None:
        return Verdict.of([Finding(_WARN, "mutants", "none of them changes an output")])
    killed, survived = measured.count("killed"), measured.count("survived")
    text = (
        f"{killed} of {killed + survived} injected faults were noticed (score {score:.2f}; "
        f"{measured.count('equivalent')} more changed no output)"
    )
    if minimum is None:
        return Verdict.of([Finding(_PASS, "mutants", text)])
    allowed = f"{text}, asked for at least {minimum:g} (tolerance.min_mutation_score)"
    failed = score < minimum
    return Verdict.of([Finding(_FAIL if failed else _PASS, "mutants", allowed)])


def latency(measured: LatencyMeasurement, budget: s.Budget) -> Verdict:
    """Judges the speed-up over PyTorch."""
    allowed = (budget.min_speedup or {}).get(measured.target)  # type: ignore[call-overload]
    if allowed is None or measured.speedup >= allowed:
        return Verdict()
    return Verdict.of(
        [
            Finding(
                _FAIL,
                "speed-up",
                f"{measured.speedup:.2f} times PyTorch "
                f"({measured.torch.median * 1e3:.3f} ms / {measured.onnxruntime.median * 1e3:.3f} "
                f"ms, median of {len(measured.torch.samples)} interleaved pairs, "
                f"{measured.threads} thread a side, {measured.boundary}), "
                f"asked for at least {allowed:g} (budget.min_speedup.{measured.target})",
            )
        ]
    )
