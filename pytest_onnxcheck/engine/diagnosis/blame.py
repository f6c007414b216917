"""Which stage of the way from PyTorch to the artefact is guilty of a failing case.

The case is run at every stage in turn, and each result is set beside PyTorch's. The first stage
from which on everything is wrong has the blame.
"""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.inputs.cases import Case, example
from pytest_onnxcheck.engine.oracle.compare import compare
from pytest_onnxcheck.engine.oracle.floor import measure_floor, ties
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.engine.quiet import quiet
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.reference.tensors import arrays_of, flatten, tensors_of
from pytest_onnxcheck.engine.runtime.evaluator import reference_evaluator
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.errors import StageError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.sections import METRICS, Bounds, Tolerance
from pytest_onnxcheck.manifest.targets import Target
from pytest_onnxcheck.measurement import OutputMeasurement, Step

if TYPE_CHECKING:
    import numpy as np
    import torch

    Array = np.ndarray[Any, Any]

__all__ = ["blame"]

#: The reference evaluator of onnx is written in Python: larger graphs take it minutes.
_MAX_NODES = 500
_MAX_ELEMENTS = 4_000_000

#: A float artefact that uses up this share of a quantized one's bounds is wrong before it is
#: quantized.
_SHARE = 0.1

#: what every step is asked to make: the outputs by the manifest's names, and what else to say
_Run = Callable[[], tuple[dict[str, "Array"], str]]


def blame(
    oracle: Oracle,
    case: Case,
    variant: Variant,
    target: Target,
    artefact: Artefact,
    float_artefact: Artefact,
    safety: float = 8.0,
) -> tuple[str | None, tuple[Step, ...]]:
    """Finds the stage that is guilty of a failing case.

    Args:
        oracle: Gives what is right.
        case: The failing case.
        variant: The variant that fails.
        target: The target it fails on.
        artefact: The variant's artefact.
        float_artefact: The fp32 artefact it was made from; the same one where there is none.
        safety: How many noise floors a step may be away.

    Returns:
        The guilty stage, or None where no step differs from PyTorch, and every step.
    """
    judged = _Judged(oracle, case, variant, safety)
    steps = [_capture(oracle.reference, variant, case, judged)]
    given_only = variant.precision != "fp32" and artefact.path == float_artefact.path
    if not given_only:
        steps += _conversion(float_artefact, case, judged)
    if variant.precision != "fp32":
        steps += _precision(artefact, case, judged, given_only)
    if target != judged.cpu:
        run = _session(artefact, case, target)
        steps.append(judged.step("provider", f"artefact on {target.name}", run, variant.precision))
    return _guilty(steps), tuple(steps)


def _guilty(steps: Sequence[Step]) -> str | None:
    """The stage of the first step after which nothing agrees any more.

    An exported program may refuse what the artefact computes rightly: its guards are left out of
    the artefact. So a step is not guilty if a later one agrees. The reference evaluator stands
    beside the others: if it agrees, the artefact means the right thing, and ONNX Runtime is wrong.
    """
    beside = [step for step in steps if step.name == _EVALUATOR]
    guilty = None
    for step in steps:
        if step in beside or step.agrees is None:
            continue
        guilty = None if step.agrees else guilty or step.stage
    if guilty == "conversion" and any(step.agrees for step in beside):
        return "provider"
    return guilty


_EVALUATOR = "onnx's reference evaluator"


def _capture(reference: Reference, variant: Variant, case: Case, judged: _Judged) -> Step:
    if variant.exporter == "dynamo":
        return judged.step("capture", "exported program", lambda: _program(reference, case))
    if variant.exporter == "torchscript":
        return judged.step("capture", "traced program", lambda: _traced(reference, case))
    return Step("capture", "program", note="how the file was made is not known")


def _conversion(artefact: Artefact, case: Case, judged: _Judged) -> Iterator[Step]:
    plain = judged.step("conversion", _PLAIN, _session(artefact, case, judged.cpu, optimise=False))
    yield plain
    if not plain.agrees:
        yield _evaluated(artefact, case, judged)
    name = "ONNX Runtime, as it ships"
    yield judged.step("runtime optimisation", name, _session(artefact, case, judged.cpu))


_PLAIN = "ONNX Runtime without optimisations"


def _precision(artefact: Artefact, case: Case, judged: _Judged, given_only: bool) -> Iterator[Step]:
    precision = judged.variant.precision
    stage = "conversion" if given_only else "quantization"
    plain = judged.step(
        stage,
        f"{_PLAIN}, {precision}",
        _session(artefact, case, judged.cpu, optimise=False),
        precision,
    )
    if given_only:
        note = "; ".join(filter(None, (plain.note, "there is no fp32 artefact to tell it from")))
        plain = Step(plain.stage, plain.name, plain.ratio, plain.agrees, note)
    yield plain
    name = f"ONNX Runtime, as it ships, {precision}"
    yield judged.step("runtime optimisation", name, _session(artefact, case, judged.cpu), precision)


def _evaluated(artefact: Artefact, case: Case, judged: _Judged) -> Step:
    """The artefact by onnx's own evaluator, which knows nothing of ONNX Runtime."""
    reason = _too_large(artefact.path, case)
    if reason is not None:
        return Step("conversion", _EVALUATOR, note=f"not run: {reason}")

    def run() -> tuple[dict[str, Array], str]:
        evaluator = reference_evaluator(str(artefact.path))
        feed = {name: case.inputs[name] for name in evaluator.input_names}
        outputs = evaluator.run(None, feed)
        return dict(zip(evaluator.output_names, outputs, strict=True)), ""

    return judged.step("conversion", _EVALUATOR, run)


def _too_large(path: Path, case: Case) -> str | None:
    exposed = OpenedGraph(path)
    nodes = len(exposed.nodes)
    if nodes > _MAX_NODES:
        return f"{nodes} nodes, at most {_MAX_NODES} are evaluated"
    elements = sum(math.prod(tensor.dims) for tensor in exposed.graph.initializer)
    elements += sum(exposed.sizes(case.inputs).values()) // 4
    if elements > _MAX_ELEMENTS:
        return f"{elements} elements, at most {_MAX_ELEMENTS} are evaluated"
    return None


def _session(artefact: Artefact, case: Case, target: Target, *, optimise: bool = True) -> _Run:
    def run() -> tuple[dict[str, Array], str]:
        session = open_session(artefact, target, optimise=optimise)
        return dict(zip(session.outputs, session.run(case.inputs), strict=True)), ""

    return run


def _program(reference: Reference, case: Case) -> tuple[dict[str, Array], str]:
    """Runs what torch.export captures; where its guards refuse the case, without them."""
    import torch

    inputs = tensors_of(case.inputs)
    args, kwargs = reference.arguments(inputs)
    try:
        program = _exported(reference)
    except Exception as error:
        raise _NotRunError(f"cannot be exported here: {_one_line(error)}") from error
    with torch.inference_mode():
        try:
            return _named(reference, program.module()(*args, **kwargs)), ""
        except Exception as error:
            note = f"guard: {_one_line(error)}"
        try:
            return _named(reference, _unguarded(program)(*args, **kwargs)), note
        except Exception as error:
            raise StageError(f"{note}; without it: {_one_line(error)}") from error


def _unguarded(program: torch.export.ExportedProgram) -> torch.nn.Module:
    """The program without what the exporter leaves out too: guards, checks and assertions."""
    module = program.module(check_guards=False)
    module._forward_pre_hooks.clear()
    for node in reversed(module.graph.nodes):
        if node.op == "call_function" and "_assert" in str(node.target) and not node.users:
            module.graph.erase_node(node)
    module.recompile()
    return module


def _exported(reference: Reference) -> torch.export.ExportedProgram:
    """What torch.export captures, tried in the exporter's order."""
    import torch

    dynamic, auto = torch.export.Dim.DYNAMIC, torch.export.Dim.AUTO
    try:
        return _exported_with(reference, dynamic, strict=False)
    except Exception:
        with contextlib.suppress(Exception):
            return _exported_with(reference, dynamic, strict=True)
        return _exported_with(reference, auto, strict=False)


def _exported_with(
    reference: Reference, hint: Any, *, strict: bool
) -> torch.export.ExportedProgram:
    import torch

    tensors = tensors_of(example(reference))
    args, kwargs = reference.arguments(tensors)
    shapes: Any = {
        name: {axis: hint for axis, dim in enumerate(shape) if isinstance(dim, str)}
        for name, shape in reference.shapes.items()
    }
    with _sizes_of_one():
        return torch.export.export(
            copy.deepcopy(reference.module),
            args,
            kwargs or None,
            dynamic_shapes=shapes if kwargs else tuple(shapes.values()),
            strict=strict,
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def _sizes_of_one() -> contextlib.AbstractContextManager[Any]:
    """Keeps dynamic dims apart from 1, as the exporter does."""
    from torch.fx.experimental import _config

    patch = getattr(_config, "patch", None)
    if patch is None or not hasattr(_config, "backed_size_oblivious"):  # private: may go away
        return contextlib.nullcontext()
    patched: contextlib.AbstractContextManager[Any] = patch(backed_size_oblivious=True)
    return patched


def _traced(reference: Reference, case: Case) -> tuple[dict[str, Array], str]:
    """Runs what the tracer captures.

    Raises:
        _NotRunError: It cannot be traced here.
    """
    import torch

    tensors = tensors_of(example(reference))
    args, kwargs = reference.arguments(tensors)
    try:
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]
            copy.deepcopy(reference.module),
            args or None,
            check_trace=False,
            strict=False,
            example_kwarg_inputs=kwargs or None,
        )
    except Exception as error:
        raise _NotRunError(f"cannot be traced here: {_one_line(error)}") from error
    inputs = tensors_of(case.inputs)
    args, kwargs = reference.arguments(inputs)
    with torch.inference_mode():
        return _named(reference, traced(*args, **kwargs)), ""


def _named(reference: Reference, returned: Any) -> dict[str, Array]:
    return dict(zip(reference.model.outputs, arrays_of(flatten(returned)), strict=True))


class _NotRunError(Exception):
    """A step could not be made, which says nothing about whether it is right."""


@dataclass(frozen=True)
class _Judged:
    """Sets outputs beside PyTorch's."""

    oracle: Oracle
    case: Case
    variant: Variant
    safety: float

    @property
    def cpu(self) -> Target:
        """The target cpu, with what the manifest says of it."""
        return self.oracle.reference.model.target("cpu")

    def step(self, stage: str, name: str, run: _Run, precision: str = "fp32") -> Step:
        """Runs a step and says how far from PyTorch it is."""
        try:
            with quiet(logging.ERROR):
                outputs, note = run()
            ratio, agrees, seen = self._agreement(outputs, precision)
        except _NotRunError as error:
            return Step(stage, name, note=str(error))
        except Exception as error:
            return Step(stage, name, math.inf, False, _one_line(error))
        unit = "floors" if self._by_floors(precision) else "of the bound"
        return Step(stage, name, ratio, agrees, "; ".join(filter(None, (note, seen))), unit)

    def _by_floors(self, precision: str) -> bool:
        """Whether a noise floor can be measured: always but for the variant's own integers."""
        return precision in UNIT or precision != self.variant.precision

    def _agreement(self, outputs: dict[str, Array], precision: str) -> tuple[float, bool, str]:
        """Distance, whether it is allowed, and what else to say."""
        declared = list(self.oracle.reference.model.outputs)
        if set(outputs) != set(declared):
            return math.inf, False, f"outputs are {list(outputs)}, declared {declared}"
        found = [outputs[name] for name in declared]
        for name, own, array in zip(declared, self._expected.outputs, found, strict=True):
            if own.shape != array.shape:
                text = f"{name!r} has shape {list(array.shape)}, PyTorch gives {list(own.shape)}"
                return math.inf, False, text
        by_metrics = self.variant.precision not in UNIT
        if not self._by_floors(precision):
            ratio = self._in_bounds(found)
            return ratio, ratio <= 1, ""
        floors = self._floors(found, precision)
        agrees = floors <= self.safety
        if by_metrics and not agrees:
            agrees = self._in_bounds(found) <= _SHARE
        return floors, agrees, ""

    @property
    def _expected(self) -> Any:
        return self.oracle.expected(self.case)

    def _floors(self, found: list[Array], precision: str) -> float:
        """The worst error in noise floors over all outputs."""
        worst = 0.0
        for index, (own, array) in enumerate(zip(self._expected.outputs, found, strict=True)):
            if not own.size:
                continue
            if own.dtype.kind == "f":
                floor = measure_floor(
                    self._expected,
                    index,
                    array,
                    precision,
                    self.safety,
                    self.oracle.typical(index),
                )
                worst = max(worst, math.inf if floor.nonfinite else floor.ratio)
            elif (own != array).any():
                tied, _ = ties(self._expected, index, array, precision)
                worst = max(worst, 0.0 if tied == (own != array).sum() else math.inf)
        return worst

    def _in_bounds(self, found: list[Array]) -> float:
        """The worst metric as a share of what the tolerance allows."""
        worst = 0.0
        outputs = self.oracle.reference.model.outputs.items()
        tolerance = self.variant.tolerance
        for (name, declared), own, array in zip(
            outputs, self._expected.outputs, found, strict=True
        ):
            measured = compare(name, declared, own, array, tolerance)
            if own.dtype.kind == "f":
                worst = max(worst, share(measured, tolerance))
            elif measured.differing:
                worst = math.inf
        return worst


def share(measured: OutputMeasurement, tolerance: Tolerance) -> float:
    """The worst metric of an output as a share of its bound.

    For a cosine and an agreement it is the distance from 1, for decibels the error they stand for.
    """
    if measured.nonfinite or measured.outside_allclose:
        return math.inf
    worst = 0.0
    for metric, larger_is_better in METRICS.items():
        bounds, value = getattr(tolerance, metric), getattr(measured, metric)
        if not isinstance(bounds, Bounds) or value is None:
            continue
        error, allowed = value, bounds.fails
        if metric == "sqnr_db":
            error, allowed = (10 ** (-decibels / 20) for decibels in (value, bounds.fails))
        elif larger_is_better:
            error, allowed = 1 - value, 1 - bounds.fails
        worst = max(worst, error / allowed if allowed else math.inf if error > 0 else 0.0)
    return worst


def _one_line(error: BaseException, limit: int = 600) -> str:
    text = " ".join(str(error).split())
    if not isinstance(error, StageError):  # whose texts are made to be read
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= limit else text[:limit] + " …"
