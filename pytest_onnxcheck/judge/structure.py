"""Judges the graph: inputs, outputs and operators."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_onnxcheck.manifest.sizes import ANY
from pytest_onnxcheck.measurement import Axis, RuntimeFit, StructureMeasurement, TensorSpec
from pytest_onnxcheck.verdict import Finding, Grade, Verdict

__all__ = ["structure"]

_FAIL, _WARN, _PASS = Grade.FAIL, Grade.WARN, Grade.PASS
#: what keeps a release from loading a file, at most, that is said of it
_OBSTACLES = 5

_FOLLOWED = (
    "Run at several sizes it gives PyTorch's shapes, so only what the file says is wrong: other "
    "tools may believe it, and ONNX Runtime warns. After an LSTM or GRU it is dynamo that says so: "
    "end forward with y.index_select(DIM, torch.arange(x.shape[DIM])), or use torchscript"
)
_BAKED = (
    "The model turns the size into a constant while it is exported; look for int(x.shape[...]), "
    "python arithmetic on sizes, or a fixed view"
)
_BETWEEN = (
    ". That size is between those that dims lists: a range, { from = 8, to = 64, step = 8 }, says "
    "which of them the model takes"
)


def structure(measured: StructureMeasurement) -> Verdict:
    """Judges the input/output contract and the operators."""
    return Verdict.of(
        [
            *_contract("input", measured.expected_inputs, measured.inputs),
            *_contract("output", measured.expected_outputs, measured.outputs, measured.followed),
            *_merged(measured),
            *_sizes(measured),
            *_graph(measured),
            *_runtime(measured.runtime),
        ]
    )


def _contract(
    kind: str,
    expected: tuple[TensorSpec, ...],
    actual: tuple[TensorSpec, ...],
    followed: tuple[Axis, ...] = (),
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
            yield from _tensor(kind, spec, by_name[spec.name], followed)


def _tensor(
    kind: str, expected: TensorSpec, actual: TensorSpec, followed: tuple[Axis, ...]
) -> Iterator[Finding]:
    what = f"{kind} {expected.name!r}"
    if expected.dtype != actual.dtype:
        yield Finding(_FAIL, what, f"dtype is {actual.dtype}, declared {expected.dtype}")
    if expected.shape is None:  # "any"
        return
    if actual.shape is None:
        yield Finding(_WARN, what, f"the artefact declares no shape, declared {expected.shape}")
        return
    if len(expected.shape) != len(actual.shape):
        yield Finding(
            _FAIL,
            what,
            f"rank is {len(actual.shape)} {_shown(actual)}, "
            f"declared {len(expected.shape)} {_shown(expected)}",
        )
        return
    for axis, (want, have) in enumerate(zip(expected.shape, actual.shape, strict=True)):
        if want == ANY:  # PyTorch says whether it may be fixed
            continue
        if isinstance(want, str) and isinstance(have, int):
            text = (
                f"dim {axis} ({want!r}) is static: {have} in {_shown(actual)}, declared dynamic "
                f"{_shown(expected)}. "
            )
            if Axis(kind, expected.name, axis) in followed:
                yield Finding(_WARN, what, text + _FOLLOWED)
                continue
            yield Finding(
                _FAIL,
                what,
                text + _BAKED,
            )
        elif isinstance(want, int) and have != want:
            # an unnamed dynamic dim where a fixed size is declared is a looser contract
            grade = _FAIL if isinstance(have, int) else _WARN
            yield Finding(
                grade, what, f"dim {axis} is {have!r} in {_shown(actual)}, declared {want}"
            )


def _merged(measured: StructureMeasurement) -> Iterator[Finding]:
    for found in measured.merged_dims:
        one, other = found.dims
        first, second = found.axes
        text = (
            f"dim {second.axis} ({other!r}) is one with dim {first.axis} ({one!r}) of "
            f"{first.kind} {first.name!r}: both are {found.symbol!r} in the artefact, which "
            "promises equal sizes only"
        )
        what = f"{second.kind} {second.name!r}"
        if found.sizes is None and found.refused:
            yield Finding(
                _WARN, what, f"{text}; PyTorch runs on no others either. Declare them as one dim"
            )
            continue
        apart = ""
        if found.sizes is not None:
            apart = (
                f", and in PyTorch {one!r} can be {found.sizes[0]} and {other!r} {found.sizes[1]}"
            )
        yield Finding(
            _FAIL,
            what,
            f"{text}{apart}. Export with sizes that differ (`example`, or the first values of "
            "`dims`) and with a name for each, and look for what ties them together in forward",
        )


def _sizes(measured: StructureMeasurement) -> Iterator[Finding]:
    for found in measured.size_mismatches:
        what, axis = f"output {found.axis.name!r}", found.axis.axis
        at = ", ".join(f"{dim} = {size}" for dim, size in found.dims.items())
        given = f"{found.found} in PyTorch{' at ' if at else ''}{at}"
        if found.fixed is not None:
            followed = found.axis in measured.followed
            text = f"dim {axis} is static: {found.fixed} in the artefact, and {given}. "
            more = _FOLLOWED if followed else _BAKED
            yield Finding(_WARN if followed else _FAIL, what, text + more)
            continue
        mend = f'"{found.formula}", or ' if found.formula else "what it follows from, or "
        mend = f'Write {mend}"{ANY}", a size that nobody chooses, in the output\'s shape'
        if found.wanted is not None:
            text = f"dim {axis} ({found.declared!r}) is {given}, where the manifest has it at "
            grade, where = (_WARN, _BETWEEN) if found.between else (_FAIL, "")
            yield Finding(grade, what, f"{text}{found.wanted}. {mend}{where}")
            continue
        text = f"dim {axis} ({found.declared!r}) is {given}, which is none of its sizes in dims"
        text += ": no input has this dim, so that nobody chooses them"
        yield Finding(_WARN, what, f"{text}. {mend}")


def _shown(spec: TensorSpec) -> str:
    return f"[{', '.join('?' if dim is None else str(dim) for dim in spec.shape or ())}]"


def _graph(measured: StructureMeasurement) -> Iterator[Finding]:
    if measured.expected_opset is not None and measured.opset != measured.expected_opset:
        text = f"the artefact declares {measured.opset}, asked for {measured.expected_opset}"
        if measured.opset > measured.expected_opset:  # torchscript writes what is asked for
            text += (
                f": dynamo writes opset {measured.opset} and up, and this graph could not be "
                "converted down; choose torchscript for lower"
            )
        yield Finding(_FAIL, "opset", text)
    if measured.allowed_opsets and measured.opset not in measured.allowed_opsets:
        allowed = ", ".join(map(str, measured.allowed_opsets))
        yield Finding(
            _FAIL,
            "opset",
            f"the file declares {measured.opset}, and the manifest allows {allowed}. Export it at "
            f"one of them, or write opsets = [{allowed}, {measured.opset}] if what loads it can",
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
        constant = name in measured.constant_outputs
        yield Finding(
            _WARN if constant else _FAIL,
            f"output {name!r}",
            "depends on no input: callers get the same values every time, as in PyTorch"
            if constant
            else "depends on no input: it was folded into a constant, and PyTorch gives another "
            "one for other values or sizes",
        )


def _runtime(found: RuntimeFit | None) -> Iterator[Finding]:
    """Whether the file loads in the ONNX Runtimes that it is deployed on."""
    if found is None:
        return
    what = f"onnxruntime {found.wanted}"
    for release, texts in list(found.obstacles.items())[:1]:
        shown = "; ".join(texts[:_OBSTACLES])
        more = f"; and {len(texts) - _OBSTACLES} more" if len(texts) > _OBSTACLES else ""
        mend = "Export at a lower opset or in another precision, or leave out what it lacks"
        if found.oldest is not None:
            mend += f', or write deploy.onnxruntime = ">={found.oldest}", the oldest that loads it'
        yield Finding(_FAIL, what, f"{release} does not load the file: {shown}{more}. {mend}")
    asked = found.wanted.removeprefix(">=").strip()
    if found.run_in is not None and not f"{found.run_in}.".startswith(f"{asked}."):
        text = f"run in {found.run_in}: no older one has a wheel for this Python"
        yield Finding(_PASS, what, text)
    if found.lowered_from is not None:
        yield Finding(
            _PASS,
            "IR version",
            f"{found.ir_version} in place of the exporter's {found.lowered_from}, so that "
            f"{what} reads it: nothing else in the file needs more",
        )
