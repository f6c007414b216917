"""Runs an artefact on every case, size and CPU it is held to, and measures how it differs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks.case import compare_outputs, measure_against, measure_case
from pytest_onnxcheck.engine.checks.sizes import run_sweeps
from pytest_onnxcheck.engine.checks.unvarying import unvarying
from pytest_onnxcheck.engine.failure import Failure
from pytest_onnxcheck.engine.graph.lost_weights import small_constants
from pytest_onnxcheck.engine.graph.operators import shares_scale
from pytest_onnxcheck.engine.inputs.batches import company
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.runtime import saturation
from pytest_onnxcheck.engine.runtime.overflow import LARGE, TINY, stored_outputs, underflowed
from pytest_onnxcheck.engine.runtime.session import Session, open_session
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.targets import CPU
from pytest_onnxcheck.manifest.terms import WITHOUT_VNNI
from pytest_onnxcheck.measurement import (
    CaseMeasurement,
    EquivalenceMeasurement,
    HeldTo,
    PortabilityMeasurement,
    SaturationMeasurement,
    SkippedProbes,
    SweepMeasurement,
)
from pytest_onnxcheck.progress import staged

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["beside_eight_bits", "measure", "searched"]

_UNSEARCHED = "draws is 0, so that --onnxcheck-search, which draws inputs, looked at none"
_LEFT_OUT = "the manifest's `cpus` leave out x86 without VNNI"


@staged("comparing", lambda subject: subject.names)
def measure(subject: Subject) -> EquivalenceMeasurement:
    """Compares an artefact with PyTorch on a target, case by case.

    PyTorch always runs on the CPU: its outputs are the reference for every target alike. The
    first case is run once more at the end, after all the others. An artefact whose 8-bit products
    saturate on CPUs unlike this one is computed for those as well.

    Raises:
        TargetAbsent: The target is not on this machine.
        RunError: The artefact does not load there, or needs inputs that are not declared.
        InputError: PyTorch itself does not run on a declared case.
    """
    oracle, variant = subject.oracle, subject.variant
    session = open_session(subject.artefact, subject.target)
    session.check_names(oracle.reference.model.inputs)  # else every case would say so
    cases = oracle.cases(variant)
    measured = [
        found
        for case in cases
        if (found := measure_case(session, oracle, variant, case)) is not None
    ]
    if variant.traits.floats == "float16" and session.provider == CPU.provider:
        largest = max(oracle.declared, key=_magnitude)
        lost = _underflowed(subject, session, largest)
        measured = [
            dataclasses.replace(entry, underflowed=lost) if entry.case == largest.name else entry
            for entry in measured
        ]
        found = _as_stored(subject, session, largest)
        measured += [found] if found is not None else []
    first = oracle.expected(cases[0])
    again = dataclasses.replace(cases[0], name=f"{cases[0].name}, again after the others")
    if len(cases) > 1 and measured[0].error is None:
        measured.append(measure_against(session, oracle, variant, again, first))
    sweeps, off = run_sweeps(session, oracle, variant, measured)
    measured += off
    ran = [case for case in oracle.declared if _ran(case, measured)]
    saturated, computed = _on_other_cpus(subject, session, ran)
    quiet = _in_company(subject, session)
    if computed and saturated is not None and saturated.here:
        measured = [_as_left_out(entry) for entry in measured]
        quiet = quiet and _as_left_out(quiet)
    return EquivalenceMeasurement(
        subject.target.name,
        session.provider,
        (*measured, *computed),
        notes=tuple(oracle.notes),
        no_float64=first.problem,
        saturation=saturated,
        held_to=_held_to(oracle, variant, cases, measured, sweeps),
        company=quiet,
        small_constants=_small_constants(subject),
        sweeps=tuple(sweeps),
        unvarying=unvarying(
            subject.artefact.path, oracle, [case for case in cases if _ran(case, measured)]
        ),
    )


def _held_to(
    oracle: Oracle,
    variant: Variant,
    cases: list[Case],
    measured: list[CaseMeasurement],
    sweeps: list[SweepMeasurement],
) -> HeldTo:
    """What was measured of the cases and of the sizes, counted."""
    names = {case.name for case in cases}  # what is derived of one shares its perturbed runs
    found = [case for case in measured if case.case in names]
    probes = sum(case.probe for case in found)
    runs = [case.perturbed_runs for case in found] + [sweep.perturbed_runs for sweep in sweeps]
    sizes = sum(len(sweep.ran) for sweep in sweeps)
    model, why = oracle.reference.model, oracle.unprobed(variant)
    if not model.draws:
        why = "draws is 0"
    elif not model.probe_seconds:
        why = "probe_seconds is 0"
    elif not probes and any(case.probe for case in cases):
        why = "PyTorch takes none of them"
    elif not probes and model.skip_probes and not oracle.probes:
        why = "skip_probes leaves out all of them"
    elif not probes and why:
        why += ", and no size lies between declared ones"
    elif not probes:
        why = "there is nothing to vary"
    skipped = tuple(SkippedProbes(entry.name, entry.reason) for entry in model.skip_probes)
    return HeldTo(
        len(oracle.declared), probes, sum(runs), why, sizes, skipped, drawn=model.draws > 0
    )


def _in_company(subject: Subject, session: Session) -> CaseMeasurement | None:
    """A quiet example beside loud ones, where an artefact takes one scale for all of them.

    None where it does not, and where examples cannot be quiet or PyTorch does not run on them.
    """
    oracle = subject.oracle
    case = company(oracle.reference) if shares_scale(subject.artefact.path) else None
    if case is None:
        return None
    return measure_case(session, oracle, subject.variant, case)


def _as_left_out(case: CaseMeasurement) -> CaseMeasurement:
    """A case that this machine ran as a CPU does that the manifest leaves out."""
    text = f"this machine's CPU has no VNNI, and {_LEFT_OUT}"
    return case if case.error else dataclasses.replace(case, lenient=text)


def _small_constants(subject: Subject) -> tuple[str, ...]:
    traits = subject.variant.traits
    if traits.floats != "float16" or traits.casts_module:
        return ()
    return small_constants(subject.artefact.path, subject.float_artefact.path)


def _ran(case: Case, measured: list[CaseMeasurement]) -> bool:
    return any(entry.case == case.name and entry.error is None for entry in measured)


def _on_other_cpus(
    subject: Subject, session: Session, ran: list[Case]
) -> tuple[SaturationMeasurement | None, list[CaseMeasurement]]:
    """The same cases on CPUs that saturate where this one does not, or the other way round."""
    cases = {case.name: case for case in ran}
    feeds = {name: session.cast_inputs(case.inputs) for name, case in cases.items()}
    found, outputs = saturation.measure(subject.artefact.path, session, subject.variant, feeds)
    if found is None:
        return None, []
    cpu, name = ("x86-vnni", "with VNNI") if found.here else (WITHOUT_VNNI, "without VNNI")
    measured = []
    for case, given in outputs.items():
        named = dataclasses.replace(cases[case], name=f"{case}, on x86 {name}")
        expected = subject.oracle.expected(cases[case])
        cast = session.cast_outputs(given)
        own = compare_outputs(subject.oracle, subject.variant, named, expected, cast)
        lenient = own.lenient or (None if found.here or found.included else _LEFT_OUT)
        measured.append(dataclasses.replace(own, cpu=cpu, lenient=lenient))
    return found, measured


def beside_eight_bits(
    measured: EquivalenceMeasurement, subject: Subject, eight: Artefact
) -> EquivalenceMeasurement:
    """Adds what weights of 7 bits cost an artefact.

    Args:
        measured: What was measured of the artefact.
        subject: What was measured, with weights of 7 bits.
        eight: The same with weights of 8 bits.

    Raises:
        RunError: The one of 8 bits does not load or run.
    """
    oracle, variant = subject.oracle, subject.variant
    session = open_session(eight, subject.target)
    run = saturation.unsaturated(eight.path, session)
    cases = [
        compare_outputs(oracle, variant, case, oracle.expected(case), run(case.inputs))
        for case in oracle.declared
    ]
    beside = dataclasses.replace(measured, cases=tuple(cases)).sqnr_db
    own = measured.sqnr_db
    if own is None or beside is None:
        return measured
    return dataclasses.replace(measured, portability=PortabilityMeasurement(own, beside))


@staged("searching", lambda measured, subject, *_: subject.names)
def searched(
    measured: EquivalenceMeasurement,
    subject: Subject,
    seconds: float,
    failure: Failure,
) -> EquivalenceMeasurement:
    """Looks for an input on which the artefact fails, and adds the smallest one it finds.

    Args:
        measured: What was measured on the other cases.
        subject: What was measured.
        seconds: How long to look.
        failure: Says what fails of a measurement of the variant.

    Returns:
        The measurement with that input as a case, or as it was: also for a variant that is made
        for the values it will meet and gets no probes of values either, and, with a note, where
        nothing is drawn.

    Raises:
        OnnxCheckError: hypothesis is not installed.
    """
    from pytest_onnxcheck.engine.oracle.search import search

    oracle, variant = subject.oracle, subject.variant
    if not oracle.reference.model.draws:
        return dataclasses.replace(measured, notes=(*measured.notes, _UNSEARCHED))
    if oracle.unprobed(variant):
        return measured
    session = open_session(subject.artefact, subject.target)

    def tried(case: Case) -> EquivalenceMeasurement | None:
        found = measure_case(session, oracle, variant, case)
        if found is None or not (found.error or any(o.elements for o in found.outputs)):
            return None
        return dataclasses.replace(measured, cases=(found,))

    def fails(case: Case) -> str | None:
        alone = tried(case)
        return None if alone is None else failure(alone, variant)

    found = search(oracle, seconds, fails)
    alone = None if found is None else tried(found.case)
    if alone is None:
        return measured
    return dataclasses.replace(measured, cases=(*measured.cases, *alone.cases))


def _magnitude(case: Case) -> float:
    """The largest finite magnitude among the inputs."""
    import numpy as np

    floats = [array for array in case.inputs.values() if array.dtype.kind == "f"]
    return max((float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) for a in floats), default=0.0)


def _underflowed(subject: Subject, session: Session, case: Case) -> tuple[str, ...]:
    """The values of a float16 artefact that underflow."""
    if subject.oracle.expected(case).cost.smallest >= TINY:
        return ()
    feeds, libraries = session.cast_inputs(case.inputs), subject.target.libraries
    return tuple(underflowed(subject.artefact.path, feeds, libraries))


def _as_stored(subject: Subject, session: Session, case: Case) -> CaseMeasurement | None:
    """Compares what a float16 artefact gives where overflowing values are stored as infinity."""
    expected = subject.oracle.expected(case)
    if expected.cost.largest < LARGE:
        return None
    feeds, libraries = session.cast_inputs(case.inputs), subject.target.libraries
    found = stored_outputs(subject.artefact.path, feeds, libraries)
    if found is None:
        return None
    overflowed, outputs = found
    shown = ", ".join(overflowed[:3]) + (", ..." if len(overflowed) > 3 else "")
    case = dataclasses.replace(case, name=f"{case.name}, with float16 overflow in {shown}")
    cast = session.cast_outputs(outputs)
    measured = compare_outputs(subject.oracle, subject.variant, case, expected, cast)
    return dataclasses.replace(measured, overflowed=tuple(overflowed))
