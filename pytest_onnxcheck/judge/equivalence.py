"""Judges what an artefact computes."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_onnxcheck.judge.bounds import graded, told
from pytest_onnxcheck.judge.masks import masks
from pytest_onnxcheck.judge.rows import company, examples
from pytest_onnxcheck.judge.saturation import portability, saturation
from pytest_onnxcheck.judge.sizes import grouped_by_size, not_run
from pytest_onnxcheck.judge.vacuity import given_alone, vacuous
from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    EquivalenceMeasurement,
    OutputMeasurement,
)
from pytest_onnxcheck.verdict import Finding, Grade, Verdict
from pytest_onnxcheck.wording import several

__all__ = ["equivalence"]

_NONFINITE = "NaN or infinity"

_FAIL, _WARN, _PASS = Grade.FAIL, Grade.WARN, Grade.PASS


def equivalence(measured: EquivalenceMeasurement, tolerance: s.Tolerance) -> Verdict:
    """Judges every output of every case."""
    judged = [(case, list(_case(case, tolerance))) for case in measured.cases]
    at_some, at_all = grouped_by_size(judged, measured.sweeps)
    findings = [
        *masks(judged),
        *at_some,
        *(finding for case, found in judged if not case.dim for finding in found),
        *at_all,
    ]
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
    failing = frozenset(finding.where for finding in findings if finding.grade is _FAIL)
    return Verdict.of(
        [
            *findings,
            *saturation(measured, failing),
            *portability(measured.portability, blamed=bool(findings)),
            *company(measured, tolerance),
            *_small_constants(measured, blamed=bool(failing)),
            *_uncompared(measured),
            *not_run(measured.sweeps),
            *_rowless(measured, tolerance),
            *vacuous(measured, tolerance),
            *notes,
            *given_alone(measured),
        ]
    )


def _small_constants(measured: EquivalenceMeasurement, *, blamed: bool) -> Iterator[Finding]:
    """Told only where something is wrong: an epsilon that is too small may well be of no matter."""
    if blamed and measured.small_constants:
        yield Finding(
            _WARN,
            "float16 constants",
            f"too small to be held: {several(measured.small_constants)}. Leave them and the nodes "
            "that read them in float32 (exclude_nodes), write larger ones, or use bf16",
        )


def _uncompared(measured: EquivalenceMeasurement) -> Iterator[Finding]:
    """A case outside the model's range is something only where it stands alone."""
    cases = [case for case in measured.cases if measured.held_to is None or not case.lenient]
    compared = sum(output.elements for case in cases for output in case.outputs)
    if not compared and not any(case.error for case in measured.cases):
        yield Finding(_FAIL, "outputs", f"nothing was compared: {len(cases)} cases, no elements")


def _rowless(measured: EquivalenceMeasurement, tolerance: s.Tolerance) -> Iterator[Finding]:
    outputs = [output for case in measured.cases for output in case.outputs]
    shaped = any(output.expected_shape == output.actual_shape for output in outputs)
    if isinstance(tolerance.top1, s.Bounds) and shaped and measured.worst("top1") is None:
        yield Finding(
            _WARN,
            "top1",
            "not measured: no output has rows of at least two floats (tolerance.top1). "
            "Bound rel_rms or sqnr_db instead",
        )


def _case(case: CaseMeasurement, tolerance: s.Tolerance) -> Iterator[Finding]:
    found: list[tuple[Grade, str, str]] = []
    if case.error is not None:
        found.append((_FAIL, "run", case.error))
    for output in case.outputs:
        if broken := _broken(output, case):
            what = f"output {output.name!r} {_NONFINITE}"
            yield Finding(_FAIL, what, _overflowing(output, broken), case.case)
        for grade, what, text in _output(output, tolerance, case):
            found.append((grade, f"output {output.name!r} {what}", text))
    if case.underflowed:
        found.append(
            (
                _WARN,
                "float16 underflow",
                f"most elements of {several(case.underflowed)} turn to zero where they are stored "
                "in float16, as on a GPU; here ONNX Runtime keeps them in float32. Leave their "
                "nodes in float32 (exclude_nodes or op_block_list), or use bf16",
            )
        )
    for grade, what, text in found:
        if case.lenient and grade is _FAIL:
            yield Finding(_WARN, what, f"{text}; no failure, since {case.lenient}", case.case)
        else:
            yield Finding(grade, what, text, case.case)


def _output(
    output: OutputMeasurement, tolerance: s.Tolerance, case: CaseMeasurement
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
    yield from _nonfinite(output, case)
    yield from _range(output)
    yield from _noise(output, tolerance)
    yield from _metrics(output, tolerance, case.probe)
    if not (case.probe and _explained(output, tolerance)):
        yield from examples(output, tolerance)


def _broken(output: OutputMeasurement, case: CaseMeasurement) -> int:
    """Elements in which PyTorch's numbers should stay numbers on a probe, whatever its magnitude.

    What is masked throughout may be anything: a probe whose mask nobody declared does not count.
    """
    if output.floor is None or not case.probe or case.odd_mask:
        return 0
    return output.floor.broken


def _overflowing(output: OutputMeasurement, broken: int) -> str:
    return (
        f"{broken} of {output.elements} elements are NaN or infinite where PyTorch "
        f"gives numbers (at most {output.scale:.3g}): the artefact has an exp, log, division or "
        "masked softmax that overflows or is undefined, where PyTorch computes it safely"
    )


def _nonfinite(
    output: OutputMeasurement, case: CaseMeasurement
) -> Iterator[tuple[Grade, str, str]]:
    floor = output.floor
    differ = output.nonfinite if floor is None else floor.nonfinite
    told = _broken(output, case)
    if differ > told:
        text = (
            f"{differ - told} of {output.elements} elements are NaN or infinite on one side "
            "only, or with another sign"
        )
        if output.undefined:
            text += "; no failure, since PyTorch itself gives NaN or infinity in them"
        yield (_WARN if output.undefined else _FAIL), _NONFINITE, text
    elif output.nonfinite and not differ:
        yield (
            _WARN,
            _NONFINITE,
            f"{output.nonfinite} of {output.elements} elements are NaN or infinite on one side "
            "only, which rounding alone does to them",
        )
    if output.expected_nan and not case.probe and not output.given_nan:
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
        text = (
            f"PyTorch itself gives {output.expected_outside_range:.2%} of the elements outside the "
            "declared range: the declaration or the model is wrong"
        )
        if output.undefined:
            text += "; no failure, since PyTorch itself gives NaN or infinity on this probe"
        yield (_WARN if output.undefined else _FAIL), "range", text
    elif output.outside_range:
        yield (
            _FAIL,
            "range",
            f"{output.outside_range:.2%} of the elements are outside the declared range",
        )


def _metrics(
    output: OutputMeasurement, tolerance: s.Tolerance, probe: bool
) -> Iterator[tuple[Grade, str, str]]:
    exact = not output.expected_dtype.startswith("float")
    if exact:
        if output.differing:
            yield _exact(output)
        return
    for grade, what, text in _thresholds(output, tolerance):
        # thresholds are written for ordinary inputs: odd ones may be rounded by more
        if not probe or output.floor is None:
            yield grade, what, text
        elif not output.floor.ratio <= tolerance.floors:
            ratio = f"{output.floor.ratio:.3g} noise floors, allowed {tolerance.floors:g}"
            yield grade, what, f"{text}; rounding does not explain it: {ratio}"


def _explained(output: OutputMeasurement, tolerance: s.Tolerance) -> bool:
    """Whether a floor was measured, and neither the whole nor a quiet example is beyond it."""
    return output.floor is not None and output.floor.farthest <= tolerance.floors


def _thresholds(
    output: OutputMeasurement, tolerance: s.Tolerance
) -> Iterator[tuple[Grade, str, str]]:
    for metric, larger_is_better in s.METRICS.items():
        bounds, value = getattr(tolerance, metric), getattr(output, metric)
        if not isinstance(bounds, s.Bounds) or value is None:
            continue
        grade = graded(value, bounds, larger_is_better)
        if grade is not _PASS:
            yield grade, metric, told(metric, value, bounds)
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
