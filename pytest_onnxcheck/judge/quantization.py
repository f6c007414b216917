"""Judges what became of the float artefact: its precision, its weights and its size."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_onnxcheck.judge.export import file_findings, size_findings
from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import CoverageMeasurement, QuantizationMeasurement
from pytest_onnxcheck.verdict import Finding, Grade, Verdict
from pytest_onnxcheck.wording import several

__all__ = ["quantization"]

_FAIL, _WARN = Grade.FAIL, Grade.WARN

_OPTIONS = "[models.NAME.quantization.{}]"
_UNBLOCK = "Shorten op_block_list and exclude_nodes of " + _OPTIONS

#: What may help where nothing carries a precision.
_ADVICE = {
    "fp16": _UNBLOCK.format("fp16"),
    "bf16": _UNBLOCK.format("bf16"),
    "half": "Give an artefact of the module after .half()",
    "int8-dynamic": "It is for MatMul, Gemm and LSTM, and leaves convolutions alone: use "
    "int8-static for them",
    "int8-static": f"Look at operators and exclude_nodes of {_OPTIONS.format('int8-static')}, and "
    "use int8-dynamic for LSTM",
    "int4-weight": "It needs MatMul or Gemm with a constant weight: use int8-static for "
    "convolutions",
}

#: What helps where float16 does not hold a weight.
_REMEDY = {
    "fp16": f"Leave their nodes in float32 (exclude_nodes or op_block_list of "
    f"{_OPTIONS.format('fp16')}), or use bf16",
    "half": "Use fp16, which can leave nodes in float32 (exclude_nodes), or bf16",
}

#: What becomes of a weight that float16 does not hold: of a larger, and of a smaller one.
_EFFECT_OUT_OF_RANGE = {
    "fp16": ("clipped to it", "raised to 6e-8, its smallest number, as ONNX Runtime's tool does"),
    "half": ("infinite", "zero"),
}

#: Options that say which nodes are left in float.
_LIMITS = ("operators", "exclude_nodes", "op_block_list")

#: A smaller share than this, of weights and of multiply-accumulates, is nothing ...
_NOTHING = 0.01

#: ... and than this little, which is warned about.
_LITTLE = 0.1

#: How many names a message lists.
_NAMED = 5

#: Fewer examples than this are warned about.
_FEW_EXAMPLES = 8


def quantization(measured: QuantizationMeasurement, budget: s.Budget) -> Verdict:
    """Judges what became of the float artefact."""
    return Verdict.of(
        [
            *file_findings(measured.file),
            *_calibration(measured),
            *_converted(measured, budget),
            *_coverage(measured, budget),
            *_weights(measured),
            *_size(measured, budget),
        ]
    )


def _calibration(measured: QuantizationMeasurement) -> Iterator[Finding]:
    """What makes the ranges of static quantization worthless, or doubtful."""
    data = measured.calibration
    if data is None:
        return
    for name, value in data.constant.items():
        told = "the ranges that follow from it hold only for that"
        if not data.varies:
            told = "every range that follows from it is wrong"
        yield Finding(
            _WARN if data.varies else _FAIL,
            "calibration",
            f"input {name!r} is {value:g} in all {data.origin}: {told}. Give real examples, "
            'or declare the input with fill = "constant" if the model never gets anything else',
        )
    if data.random:
        yield Finding(
            _WARN,
            "calibration",
            f"{data.origin}: the ranges are those of noise, not of your data. "
            "Give real examples: calibration = { file = ... }",
        )
    elif data.examples < _FEW_EXAMPLES:
        yield Finding(
            _WARN,
            "calibration",
            f"only {data.examples} examples ({data.origin}), at least {_FEW_EXAMPLES} expected: "
            "values that real data reaches and these do not are clipped. Give more",
        )


def _converted(measured: QuantizationMeasurement, budget: s.Budget) -> Iterator[Finding]:
    """Artefacts that are not what they are called, or hardly."""
    precision, found = measured.precision, measured.coverage
    if measured.identical:
        yield Finding(
            _FAIL,
            f"precision {precision}",
            "is the fp32 artefact under another name, byte for byte. Quantize it, or drop this "
            "precision from the model",
            measured.file.path,
        )
    elif found is not None and _most(found) < _NOTHING:
        remaining = ", ".join(f"{count} {op}" for op, count in measured.remaining.items())
        yield Finding(
            _FAIL,
            f"precision {precision}",
            f"nothing was quantized: {_shares(found)} are {precision}"
            f"{_made_with(measured)} (left in float: {remaining or 'no operator that could be'}). "
            f"{_advice(measured)}, or drop this precision from the model",
        )
    elif found is not None and _most(found) < _LITTLE and budget.min_coverage is None:
        yield Finding(
            _WARN,
            "coverage",
            f"only {_shares(found)} are {precision}{_made_with(measured)}{_left(found)}. "
            f"{_advice(measured)}, or set budget.min_coverage to have it judged",
        )


def _most(found: CoverageMeasurement) -> float:
    return max(found.weights or 0.0, found.compute or 0.0)


def _shares(found: CoverageMeasurement) -> str:
    shares = {"weights": found.weights, "multiply-accumulates": found.compute}
    return " and ".join(
        f"{'none' if not share else format(share, '.2g')} of the {what}"
        for what, share in shares.items()
    )


def _made_with(measured: QuantizationMeasurement) -> str:
    """The options that leave nodes in float."""
    limits = {name: measured.options.get(name) for name in _LIMITS}
    shown = " and ".join(f"{name} = {value}" for name, value in limits.items() if value)
    return f" with {shown}" if shown else ""


def _advice(measured: QuantizationMeasurement) -> str:
    """What may help: the manifest's own lists come before what the precision is for."""
    lists = [name for name in ("exclude_nodes", "op_block_list") if measured.options.get(name)]
    if lists:
        return f"Shorten {' and '.join(lists)} of {_OPTIONS.format(measured.precision)}"
    return _ADVICE[measured.precision]


def _coverage(measured: QuantizationMeasurement, budget: s.Budget) -> Iterator[Finding]:
    found, allowed = measured.coverage, budget.min_coverage
    if found is None or allowed is None:
        return
    shares = {"weights": found.weights, "multiply-accumulates": found.compute}
    wanted = f"asked for at least {allowed:g} (budget.min_coverage)"
    for what, share in shares.items():
        if share is None:
            yield Finding(_WARN, "coverage", f"it has no {what} that could be counted, {wanted}")
        elif share < allowed:
            yield Finding(
                _FAIL,
                "coverage",
                f"{share:.2f} of the {what} are {measured.precision}, {wanted}"
                + (_left(found) if what != "weights" else ""),
            )
    if found.uncounted:
        yield Finding(
            _WARN,
            "coverage",
            f"the multiply-accumulates of {found.uncounted} nodes could not be counted, and are "
            "left out of their share (budget.min_coverage)",
        )


def _left(found: CoverageMeasurement) -> str:
    """The nodes that are left in float, the most expensive first."""
    if not found.floating:
        return ""
    shown = ", ".join(f"{name} {share:.2g}" for name, share in found.floating[:_NAMED])
    more = ", ..." if len(found.floating) > _NAMED else ""
    return f"; left in float: {shown}{more}"


def _weights(measured: QuantizationMeasurement) -> Iterator[Finding]:
    """Weights that float16 does not hold; whether it matters is for equivalence to say."""
    if not (measured.clipped or measured.vanished):
        return
    larger, smaller = _EFFECT_OUT_OF_RANGE[measured.precision]
    if measured.clipped:
        yield Finding(
            _FAIL,
            "weights",
            f"beyond 65504, the largest float16, and {larger}: {several(measured.clipped)}. "
            f"{_REMEDY[measured.precision]}",
        )
    if measured.vanished:
        yield Finding(
            _WARN,
            "weights",
            f"below what float16 holds (3e-8), and {smaller}: {several(measured.vanished)}. "
            f"{_REMEDY[measured.precision]}",
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
    elif ratio is not None and ratio >= 1 and not (budget.max_size_ratio or measured.identical):
        yield Finding(
            _WARN,
            "size ratio",
            f"{ratio:.3f} of the fp32 artefact's {measured.float_bytes} bytes: this variant is no "
            "smaller. It pays only if it is faster; set budget.max_size_ratio to have it judged",
        )
    yield from size_findings(measured.file, budget)
