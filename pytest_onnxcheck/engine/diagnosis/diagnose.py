"""What can be found out about a failing case: whose fault, where, and a folder to see it again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from pytest_onnxcheck.engine.advice.sensitivity import Build
from pytest_onnxcheck.engine.advice.sensitivity import measure as measure_sensitivity
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.diagnosis.blame import blame
from pytest_onnxcheck.engine.diagnosis.bounds import largest_difference
from pytest_onnxcheck.engine.diagnosis.layers import layer_losses
from pytest_onnxcheck.engine.diagnosis.localise import localise
from pytest_onnxcheck.engine.diagnosis.nonfinite import first_nonfinite
from pytest_onnxcheck.engine.diagnosis.repro import command, write_repro
from pytest_onnxcheck.engine.failure import Failure
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    Diagnosis,
    EquivalenceMeasurement,
)
from pytest_onnxcheck.progress import staged
from pytest_onnxcheck.wording import one_line

__all__ = ["diagnose"]

_T = TypeVar("_T")

#: how long to look for nodes of an int8-static artefact that are better left in float
_SENSITIVITY_SECONDS = 20.0

#: how many characters of an error are repeated
_MOST_CHARACTERS = 300


@staged("diagnosing", lambda measured, subject, *_, **__: subject.names)
def diagnose(
    measured: EquivalenceMeasurement,
    subject: Subject,
    failing: str,
    finding: str,
    *,
    root: Path,
    manifest: Path,
    build: Build,
    failure: Failure,
) -> Diagnosis | None:
    """Looks into a failure; what it cannot find out it notes, it never raises.

    Args:
        measured: The measurement that failed.
        subject: What was measured.
        failing: Name of the failing case.
        finding: What is wrong with it.
        root: The artefacts' folder, where the repro folder is put.
        manifest: The manifest, of which an excerpt is kept.
        build: Makes the artefact of another variant.
        failure: Says what fails of a measurement, of outputs or of a quantized file.

    Returns:
        None when the failure belongs to no case.
    """
    case = subject.oracle.case(failing)
    if case is None:
        return None
    found = measured.case(failing)
    assert found is not None
    reason = _known_reason(found, subject.artefact)
    if reason is not None:
        return Diagnosis(failing, stage="quantization", notes=(reason,))
    if _only_examples(measured, found, subject, failure):
        stage = "quantization" if subject.converted else None
        return Diagnosis(failing, stage, notes=("the whole output is right, an example is not",))
    attempts = _Attempts()
    nonfinite = any(output.nonfinite for output in found.outputs)
    diagnosis = _diagnosed(subject, case, build, failure, attempts, nonfinite=nonfinite)
    tolerance, divergence = subject.variant.tolerance, diagnosis.divergence
    allowed = {output.name: largest_difference(output, tolerance) for output in found.outputs}
    folder = attempts.make(
        "repro",
        lambda: write_repro(
            root,
            subject,
            case,
            finding=finding,
            manifest=manifest,
            allowed=allowed,
            node=divergence.node if divergence is not None else None,
        ),
    )
    return dataclasses.replace(
        diagnosis,
        case=failing,  # a name of its own where the case was derived from another
        repro=None if folder is None else command(folder),
        notes=tuple(attempts.failures),
    )


def _only_examples(
    measured: EquivalenceMeasurement, found: CaseMeasurement, subject: Subject, failure: Failure
) -> bool:
    """Whether a case fails by what was measured of single examples, and by nothing else.

    The one in company fails by nothing else, if its whole output is right.
    """
    outputs = [
        dataclasses.replace(
            output, rows=(), floor=output.floor and dataclasses.replace(output.floor, row=None)
        )
        for output in found.outputs
    ]
    cases = found, dataclasses.replace(found, outputs=tuple(outputs))
    fails, whole_fails = (
        failure(dataclasses.replace(measured, cases=(case,), company=None), subject.variant)
        for case in cases
    )
    return (fails is not None or found is measured.company) and whole_fails is None


class _Attempts:
    """Makes attempts that may fail.

    Attributes:
        failures: What failed, and how.
    """

    def __init__(self) -> None:
        self.failures: list[str] = []

    def make(self, what: str, attempt: Callable[[], _T]) -> _T | None:
        """What an attempt gives; None where it fails, which is noted."""
        try:
            return attempt()
        except Exception as error:  # whatever a broken model brings about
            text = one_line(error)[:_MOST_CHARACTERS]
            self.failures.append(f"{what}: {type(error).__name__}: {text}")
            return None


def _known_reason(found: CaseMeasurement, artefact: Artefact) -> str | None:
    """Why a case fails, where that is known without a look at the artefact."""
    if found.overflowed:
        return (
            f"float16 stores {', '.join(found.overflowed[:5])} as infinity; ONNX Runtime's CPU "
            "provider keeps float32 there and hides it, a GPU does not. Keep the operators "
            "that compute them in float32 (op_block_list), or scale the values down"
        )
    if found.cpu:
        return f"computed as {found.cpu} does; this machine's own CPU is another"
    calibration = artefact.notes.calibration
    if calibration and calibration.constant and not calibration.varies:
        return "calibrated on constant data: see test_quantization"
    return None


def _diagnosed(
    subject: Subject,
    case: Case,
    build: Build,
    failure: Failure,
    attempts: _Attempts,
    *,
    nonfinite: bool,
) -> Diagnosis:
    """The guilty stage, and where in the artefact it goes wrong."""
    variant, safety = subject.variant, subject.variant.tolerance.floors
    path, float_path = subject.artefact.path, subject.float_artefact.path
    blamed = attempts.make("guilty stage", partial(blame, subject, case))
    stage, steps = blamed or (None, ())
    if stage != "quantization" or not subject.converted:
        locate = partial(localise, float_path, subject.oracle, case, safety=safety)
        divergence = attempts.make("first divergence", locate)
        return Diagnosis(case.name, stage, steps, divergence)
    divergence, losses, sensitivity = None, None, None
    if nonfinite:
        find = partial(first_nonfinite, path, subject.oracle, case, safety=safety)
        divergence = attempts.make("first NaN or infinity", find)
    else:
        lost = partial(layer_losses, float_path, path, case.inputs, subject.target.libraries)
        losses = attempts.make("layers", lost)
    if variant.traits.calibrated and variant.file is None:
        measure = partial(
            measure_sensitivity,
            subject,
            case,
            build=build,
            failure=failure,
            seconds=_SENSITIVITY_SECONDS,
        )
        sensitivity = attempts.make("sensitivity", measure)
    return Diagnosis(case.name, stage, steps, divergence, losses or (), sensitivity)
