"""What can be found out about a failing case: whose fault, where, and a folder to see it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from pytest_onnxcheck.engine.advice.sensitivity import Build
from pytest_onnxcheck.engine.advice.sensitivity import measure as measure_sensitivity
from pytest_onnxcheck.engine.artefacts.store import Artefact
from pytest_onnxcheck.engine.diagnosis.blame import blame, share
from pytest_onnxcheck.engine.diagnosis.localise import layer_losses, localise
from pytest_onnxcheck.engine.diagnosis.repro import command, write_repro
from pytest_onnxcheck.engine.failure import Failure
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.measurement import Diagnosis, EquivalenceMeasurement, OutputMeasurement

__all__ = ["diagnose"]

_T = TypeVar("_T")

#: how long to look for nodes of an int8-static artefact that are better left in float
_SENSITIVITY_SECONDS = 20.0


def diagnose(
    measured: EquivalenceMeasurement,
    failing: str,
    finding: str,
    *,
    artefact: Artefact,
    float_artefact: Artefact,
    oracle: Oracle,
    variant: Variant,
    root: Path,
    manifest: Path,
    build: Build,
    failure: Failure,
) -> Diagnosis | None:
    """Looks into a failure; what it cannot find out it notes, it never raises.

    Args:
        measured: The measurement that failed.
        failing: Name of the failing case.
        finding: What is wrong with it.
        artefact: What failed.
        float_artefact: The fp32 artefact it was made from.
        oracle: What it should give.
        variant: The variant that failed.
        root: The artefacts' folder, where the repro folder is put.
        manifest: The manifest, of which an excerpt is kept.
        build: Makes the artefact of another variant.
        failure: Says what fails of a measurement, of outputs or of a quantized file.

    Returns:
        None when the failure belongs to no case.
    """
    case = oracle.case(failing)
    if case is None:
        return None
    (found,) = [entry for entry in measured.cases if entry.case == failing]
    if found.overflowed:
        return Diagnosis(
            failing,
            stage="quantization",
            notes=(
                f"float16 stores {', '.join(found.overflowed[:5])} as infinity; ONNX Runtime's CPU "
                "provider keeps float32 there and hides it, a GPU does not. Keep the operators "
                "that compute them in float32 (op_block_list), or scale the values down",
            ),
        )
    if found.cpu:
        return Diagnosis(
            failing,
            stage="quantization",
            notes=(f"computed as {found.cpu} does; this machine's own CPU is another",),
        )
    calibration = artefact.notes.get("calibration")
    if calibration and calibration["constant"] and not calibration["varies"]:
        return Diagnosis(
            failing,
            stage="quantization",
            notes=("calibrated on constant data: see test_quantization",),
        )
    notes: list[str] = []
    safety = variant.tolerance.safety or 8.0
    target = oracle.reference.model.target(measured.target)

    def tried(what: str, attempt: Callable[[], _T]) -> _T | None:
        try:
            return attempt()
        except Exception as error:  # whatever a broken model brings about
            text = " ".join(str(error).split())[:300]
            notes.append(f"{what}: {type(error).__name__}: {text}")
            return None

    blamed = tried(
        "guilty stage",
        lambda: blame(oracle, case, variant, target, artefact, float_artefact, safety),
    )
    stage, steps = blamed or (None, ())
    divergence, losses, sensitivity = None, None, None
    if stage == "quantization" and artefact.path != float_artefact.path:
        losses = tried(
            "layers", lambda: layer_losses(float_artefact.path, artefact.path, case.inputs)
        )
        if variant.precision == "int8-static" and variant.file is None:
            sensitivity = tried(
                "sensitivity",
                lambda: measure_sensitivity(
                    artefact,
                    float_artefact,
                    oracle,
                    variant,
                    target,
                    case,
                    build=build,
                    failure=failure,
                    seconds=_SENSITIVITY_SECONDS,
                ),
            )
    else:
        divergence = tried(
            "first divergence",
            lambda: localise(float_artefact.path, oracle, case, safety=safety),
        )
    folder = tried(
        "repro",
        lambda: write_repro(
            root,
            oracle,
            variant,
            target,
            artefact,
            case,
            finding=finding,
            manifest=manifest,
            allowed=_allowed(measured, failing, variant),
            node=divergence.node if divergence is not None else None,
        ),
    )
    return Diagnosis(
        case=failing,
        stage=stage,
        steps=steps,
        divergence=divergence,
        losses=losses or (),
        sensitivity=sensitivity,
        repro=None if folder is None else command(folder),
        notes=tuple(notes),
    )


def _allowed(measured: EquivalenceMeasurement, failing: str, variant: Variant) -> dict[str, float]:
    """Output -> largest |difference| that the check would let pass, about."""
    outputs = [output for case in measured.cases if case.case == failing for output in case.outputs]
    return {output.name: _largest(output, variant) for output in outputs}


def _largest(output: OutputMeasurement, variant: Variant) -> float:
    """What max_abs may be, if it shrank in proportion to the metric that fails worst."""
    tolerance, worst = variant.tolerance, output.max_abs or 0.0
    if output.tied and output.tied == output.differing:
        return worst
    allowed = []
    if output.floor is not None and tolerance.safety is not None:
        # the floor is about float64, the script compares with PyTorch's own float32
        allowed.append(tolerance.safety * output.floor.floor_worst + output.floor.torch_worst)
        if output.floor.ratio > tolerance.safety:
            allowed.append(worst * tolerance.safety / output.floor.ratio)
    of_bounds = share(output, tolerance)
    if of_bounds > 0:
        allowed.append(worst / of_bounds)
    return min(allowed, default=0.0)
