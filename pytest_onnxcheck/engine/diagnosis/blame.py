"""Which stage of the way from PyTorch to the artefact is guilty of a failing case.

The case is run at every stage in turn, and each result is set beside PyTorch's. The first stage
from which on everything is wrong has the blame.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.diagnosis import programs
from pytest_onnxcheck.engine.diagnosis.bounds import share_of_bound
from pytest_onnxcheck.engine.diagnosis.programs import NotRunError
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.compare import compare
from pytest_onnxcheck.engine.oracle.expected import Expected
from pytest_onnxcheck.engine.oracle.floor import measure_floor, tied_elements
from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.engine.quiet import quiet
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.manifest.targets import Target
from pytest_onnxcheck.measurement import Step

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["blame"]

#: A float artefact that uses up this share of a quantized one's bounds is wrong before it is
#: quantized.
_FLOAT_SHARE_OF_BOUND = 0.1

_PLAIN = "ONNX Runtime without optimisations"
_SHIPPED = "ONNX Runtime, as it ships"
_EVALUATOR = "onnx's reference evaluator"

#: runs a program: gives the outputs by the manifest's names, and what else to say
_Run = Callable[[], tuple[dict[str, "Array"], str]]


def blame(subject: Subject, case: Case) -> tuple[str | None, tuple[Step, ...]]:
    """Finds the stage that is guilty of a failing case.

    Args:
        subject: What fails.
        case: The failing case.

    Returns:
        The guilty stage, or None where no step differs from PyTorch, and every step.
    """
    comparison = _Comparison(subject, case)
    precision = subject.variant.precision
    steps = [_capture(comparison)]
    if precision == "fp32" or subject.converted:
        steps += _conversion(comparison)
    if precision != "fp32":
        steps += _precision(comparison)
    if subject.target != comparison.cpu:
        run = partial(programs.run_in_session, subject.artefact, case, subject.target)
        name = f"artefact on {subject.target.name}"
        steps.append(comparison.step("provider", name, run, precision))
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


def _capture(comparison: _Comparison) -> Step:
    """What the exporter captures of the model, before it is made into ONNX."""
    reference, case = comparison.subject.reference, comparison.case
    exporter = comparison.subject.variant.exporter
    if exporter == "dynamo":
        run = partial(programs.exported, reference, case)
        return comparison.step("capture", "exported program", run)
    if exporter == "torchscript":
        run = partial(programs.traced, reference, case)
        return comparison.step("capture", "traced program", run)
    return Step("capture", "program", note="how the file was made is not known")


def _conversion(comparison: _Comparison) -> Iterator[Step]:
    """The fp32 artefact, as it is written and as ONNX Runtime rewrites it."""
    artefact = comparison.subject.float_artefact
    plain = comparison.on_cpu("conversion", _PLAIN, artefact, optimise=False)
    yield plain
    if not plain.agrees:
        run = partial(programs.evaluated, artefact, comparison.case)
        yield comparison.step("conversion", _EVALUATOR, run)
    yield comparison.on_cpu("runtime optimisation", _SHIPPED, artefact)


def _precision(comparison: _Comparison) -> Iterator[Step]:
    """The artefact in the variant's precision, as it is written and as ONNX Runtime rewrites it."""
    subject = comparison.subject
    precision = subject.variant.precision
    stage = "quantization" if subject.converted else "conversion"
    name = f"{_PLAIN}, {precision}"
    plain = comparison.on_cpu(stage, name, subject.artefact, precision, optimise=False)
    if not subject.converted:
        note = _joined(plain.note, "there is no fp32 artefact to tell it from")
        plain = dataclasses.replace(plain, note=note)
    yield plain
    name = f"{_SHIPPED}, {precision}"
    yield comparison.on_cpu("runtime optimisation", name, subject.artefact, precision)


@dataclass(frozen=True)
class _Comparison:
    """Sets a program's outputs beside PyTorch's.

    Attributes:
        subject: What fails.
        case: The failing case.
    """

    subject: Subject
    case: Case

    @property
    def safety(self) -> float:
        """How many noise floors a step may be away."""
        return self.subject.variant.tolerance.floors

    @property
    def cpu(self) -> Target:
        """The target cpu, with what the manifest says of it."""
        return self.subject.model.target("cpu")

    def on_cpu(
        self,
        stage: str,
        name: str,
        artefact: Artefact,
        precision: str = "fp32",
        *,
        optimise: bool = True,
    ) -> Step:
        """Runs an artefact in ONNX Runtime on the CPU and says how far from PyTorch it is."""
        run = partial(programs.run_in_session, artefact, self.case, self.cpu, optimise=optimise)
        return self.step(stage, name, run, precision)

    def step(self, stage: str, name: str, run: _Run, precision: str = "fp32") -> Step:
        """Runs a program and says how far from PyTorch it is.

        Args:
            stage: The stage that made the program.
            name: What to call it.
            run: Runs it.
            precision: What it computes in.
        """
        try:
            with quiet(logging.ERROR):
                outputs, note = run()
            ratio, agrees, problem = self._agreement(outputs, precision)
        except NotRunError as error:
            return Step(stage, name, note=str(error))
        except Exception as error:
            return Step(stage, name, math.inf, False, programs.described(error))
        unit = "floors" if self._by_floors(precision) else "of the bound"
        return Step(stage, name, ratio, agrees, _joined(note, problem), unit)

    def _by_floors(self, precision: str) -> bool:
        """Whether a noise floor can be measured: always but for the variant's own integers."""
        return precision in UNIT or precision != self.subject.variant.precision

    def _agreement(self, outputs: dict[str, Array], precision: str) -> tuple[float, bool, str]:
        """How far outputs are from PyTorch's, whether that is allowed, and what else to say."""
        declared = list(self.subject.model.outputs)
        if set(outputs) != set(declared):
            return math.inf, False, f"outputs are {list(outputs)}, declared {declared}"
        found = [outputs[name] for name in declared]
        for name, own, array in zip(declared, self._expected.outputs, found, strict=True):
            if own.shape != array.shape:
                text = f"{name!r} has shape {list(array.shape)}, PyTorch gives {list(own.shape)}"
                return math.inf, False, text
        if not self._by_floors(precision):
            share = self._share_of_bound(found)
            return share, share <= 1, ""
        floors = self._floors(found, precision)
        agrees = floors <= self.safety
        if not agrees and self.subject.variant.precision not in UNIT:
            agrees = self._share_of_bound(found) <= _FLOAT_SHARE_OF_BOUND
        return floors, agrees, ""

    @property
    def _expected(self) -> Expected:
        return self.subject.oracle.expected(self.case)

    def _floors(self, found: list[Array], precision: str) -> float:
        """The worst error over all outputs, in noise floors."""
        usual = self.subject.oracle.usual_magnitude
        expected, worst = self._expected, 0.0
        for index, (own, array) in enumerate(zip(expected.outputs, found, strict=True)):
            if not own.size:
                continue
            if own.dtype.kind == "f":
                floor = measure_floor(expected, index, array, precision, self.safety, usual(index))
                worst = max(worst, math.inf if floor.nonfinite else floor.ratio)
            elif (own != array).any():
                tied, _ = tied_elements(expected, index, array, precision)
                worst = max(worst, 0.0 if tied == (own != array).sum() else math.inf)
        return worst

    def _share_of_bound(self, found: list[Array]) -> float:
        """The worst metric over all outputs, as a share of what the tolerance allows."""
        worst = 0.0
        outputs = self.subject.model.outputs.items()
        tolerance = self.subject.variant.tolerance
        for (name, declared), own, array in zip(
            outputs, self._expected.outputs, found, strict=True
        ):
            measured = compare(name, declared, own, array, tolerance)
            if own.dtype.kind == "f":
                worst = max(worst, share_of_bound(measured, tolerance))
            elif measured.differing:
                worst = math.inf
        return worst


def _joined(*notes: str) -> str:
    return "; ".join(filter(None, notes))
