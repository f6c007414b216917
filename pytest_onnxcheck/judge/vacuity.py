"""What would pass whatever the artefact computes: a pass that says nothing.

Each is a warning, and inconclusive: a failure with `--onnxcheck-strict`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator

from pytest_onnxcheck.judge.bounds import graded
from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import (
    EquivalenceMeasurement,
    FloorMeasurement,
    OutputMeasurement,
)
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.verdict import Finding, Grade

__all__ = ["VACUOUS", "given_alone", "unchecked", "vacuous"]

#: An output no larger than this on any case says nothing about the artefact: whatever is compared
#: with it agrees. Randomly initialised MobileNets give 1e-31.
VACUOUS = 1e-12

#: A floor that is this part of the output hides everything.
_BLIND = 8.0

_FAIL, _WARN, _PASS = Grade.FAIL, Grade.WARN, Grade.PASS


def vacuous(measured: EquivalenceMeasurement, tolerance: s.Tolerance) -> Iterator[Finding]:
    """Judges whether the outputs, and what they are held to, can tell a wrong artefact at all."""
    yield from _always_empty(measured)
    yield from _all_nan(measured)
    told = set()
    for finding in _of_outputs(measured, tolerance):
        if finding.what not in told:  # of several reasons the first
            yield finding
        told.add(finding.what)


def unchecked(
    entries: Iterable[Entry], excused: Callable[[Entry], Collection[str]]
) -> dict[str, str]:
    """The models of which every check was skipped: a sentence each, by name.

    Args:
        entries: What the checks of a run found.
        excused: The reasons for which the manifest itself skips checks of an entry's model; a model
            that is skipped for these alone is left out.
    """
    models: dict[tuple[str, str], list[Entry]] = {}
    for entry in entries:
        models.setdefault((entry.manifest, entry.model), []).append(entry)
    found = {}
    for (_, model), checks in models.items():
        reasons = [entry.reason for entry in checks]
        if any(entry.outcome != "skipped" for entry in checks):
            continue
        if not set(reasons) <= set(excused(checks[0])):
            found[model] = f"all {len(checks)} checks were skipped, the first because: {reasons[0]}"
    return found


def _of_outputs(measured: EquivalenceMeasurement, tolerance: s.Tolerance) -> Iterator[Finding]:
    if tolerance.policy == "noise-floor":  # otherwise only what is suspicious has a floor
        yield from _unchecked(measured)
    yield from _zero(measured)
    for name in measured.unvarying:
        yield _says_nothing(
            name,
            "PyTorch gives the same in every case, whatever it is fed with, so that an artefact "
            "that ignores its inputs agrees. Look for units that are dead or saturated, and "
            "whether the checkpoint is the trained one",
        )
    yield from _wide(measured, tolerance)


def _says_nothing(name: str, why: str) -> Finding:
    return Finding(_WARN, f"output {name!r}", f"vacuous: {why}", inconclusive=True)


def given_alone(measured: EquivalenceMeasurement) -> Iterator[Finding]:
    """Judges whether anything was compared that the manifest does not give itself."""
    held = measured.held_to
    if held is not None and not (held.drawn or held.probes or held.sizes):
        cases = f"{held.cases} case" + "s" * (held.cases != 1)
        yield Finding(
            _WARN,
            "cases",
            f"nothing but {cases} of the manifest's own was compared: draws is 0, so that there "
            "are no probes either. Faults that these do not meet are not seen: draw at least one "
            "(draws = 1), or give sizes to sweep (dims)",
            inconclusive=True,
        )


def _zero(measured: EquivalenceMeasurement) -> Iterator[Finding]:
    scales: dict[str, float] = {}
    for case in measured.cases:
        for output in case.outputs:
            if output.elements:
                scales[output.name] = max(scales.get(output.name, 0.0), output.scale)
    for name, scale in scales.items():
        if scale <= VACUOUS:
            yield _says_nothing(
                name,
                f"|PyTorch| is at most {scale:.3g} in every case, so that whatever is "
                "compared with it agrees. Use a trained checkpoint, or calibrate BatchNorm",
            )


def _wide(measured: EquivalenceMeasurement, tolerance: s.Tolerance) -> Iterator[Finding]:
    """Outputs that a constant in their place would pass for, on all declared cases."""
    found: dict[str, list[OutputMeasurement]] = {}
    for case in measured.declared:
        for output in case.outputs:
            if output.expected_dtype.startswith("float"):
                found.setdefault(output.name, []).append(output)
    for name, outputs in found.items():
        lowest = min((each.lowest for each in outputs if each.lowest is not None), default=0.0)
        highest = max((each.highest for each in outputs if each.highest is not None), default=0.0)
        span = highest - lowest
        if span > 0 and all(_passes(output, span, tolerance) for output in outputs):
            yield _says_nothing(
                name,
                f"PyTorch gives {lowest:.4g} to {highest:.4g}, and what is allowed is wider than "
                "that: a constant in its place would pass. Tighten the tolerance, or bound what "
                "tells values apart (cosine, top1)",
            )


def _passes(output: OutputMeasurement, span: float, tolerance: s.Tolerance) -> bool:
    """Whether a value anywhere in the span of an output would pass for all of its elements.

    A metric that cannot be told of such a value is taken to see it.
    """
    least = max(output.scale - span, 0.0)  # no element is smaller, where all are of one sign
    error = {"max_abs": span, "mean_abs": span, "mse": span * span}
    error |= dict.fromkeys(("rel_rms", "max_rel"), span / least if least else math.inf)
    error["sqnr_db"] = -20 * math.log10(error["rel_rms"]) if least else -math.inf
    for metric, larger_is_better in s.METRICS.items():
        bounds = getattr(tolerance, metric)
        if not isinstance(bounds, s.Bounds) or getattr(output, metric) is None:
            continue
        value = error.get(metric)
        if value is None or graded(value, bounds, larger_is_better) is not _PASS:
            return False
    rtol, atol = tolerance.rtol, tolerance.atol
    if rtol is not None and atol is not None and span > atol + rtol * least:
        return False
    floor = output.floor
    if tolerance.policy == "noise-floor" and tolerance.safety is not None:
        # where the cheap half of a floor was enough, no more of it is known
        return floor is not None and span <= tolerance.safety * floor.floor_rms
    return True


def _always_empty(measured: EquivalenceMeasurement) -> Iterator[Finding]:
    """Outputs without elements in every case, although no size of theirs is declared to be 0."""
    found: dict[str, int] = {}
    for case in (case for case in measured.cases if not case.lenient):
        for output in case.outputs:
            if not output.without_elements:
                found[output.name] = found.get(output.name, 0) + output.elements
    for name in [name for name, elements in found.items() if not elements]:
        yield Finding(
            _WARN,
            f"output {name!r}",
            "nothing was compared: it is empty in every case. Give a case of your own (`cases`) "
            "in which it is not, such as an image with something to detect, or sizes above 0",
            inconclusive=True,
        )


def _all_nan(measured: EquivalenceMeasurement) -> Iterator[Finding]:
    """Outputs in which PyTorch gives nothing but NaN, whatever the manifest declares."""
    found: dict[str, list[bool]] = {}
    for case in measured.declared:
        for output in case.outputs:
            if output.elements and not output.given_nan:
                found.setdefault(output.name, []).append(output.expected_nan == output.elements)
    for name, nothing in found.items():
        if all(nothing):
            yield Finding(
                _FAIL,
                f"output {name!r}",
                "nothing was compared: PyTorch itself gives NaN in all elements of every declared "
                "case. Look for inputs in another order than forward takes them, a mask the other "
                "way round (`masked`), or a range that the model is not made for",
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
            yield _says_nothing(
                name,
                "in every case rounding alone may move it by its own size, so that "
                "almost anything agrees with it. The model is ill-conditioned, or behaves "
                "differently in float64",
            )
