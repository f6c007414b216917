"""Judges what becomes of 8-bit products on CPUs unlike the one that measured them."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_onnxcheck.measurement import (
    EquivalenceMeasurement,
    PortabilityMeasurement,
    SaturatedLayer,
    SaturationMeasurement,
)
from pytest_onnxcheck.verdict import Finding, Grade

__all__ = ["portability", "saturation"]

_WHAT = "x86 without VNNI"

#: How many layers a message lists.
_NAMED = 3

#: What portable weights may cost before outputs that are not as they should be are laid to them.
_HEAVY_DB = 1.0

_PREVENT = (
    "Quantize the weights to 7 bits (reduce_range = true, the default of what the plugin "
    'quantizes), or take "x86-avx2" out of `cpus` if it never runs there, or set '
    '"session.x64quantprecision" = "1" in [targets.cpu.session_options] and wherever it runs'
)


def saturation(measured: EquivalenceMeasurement, failing: frozenset[str]) -> Iterator[Finding]:
    """Judges whether saturation explains what fails, and tells what it does.

    Args:
        measured: The measurement.
        failing: Names of the cases that fail.
    """
    found = measured.saturation
    if found is None:
        return
    why = found.problem or found.unknown
    if why and found.included and not found.prevented and not found.here:
        yield Finding(
            Grade.WARN,
            _WHAT,
            f"what the artefact gives there could not be computed ({why}): 8-bit weights may "
            'saturate. Run the gate on such a CPU, or take "x86-avx2" out of `cpus`',
            inconclusive=True,
        )
    if not found.layers:
        if not why:
            text = "gives the same: no pair of its weights can saturate"
            yield Finding(Grade.PASS, _WHAT, text)
        return
    if found.prevented:
        yield Finding(
            Grade.PASS,
            _WHAT,
            f"{_layers(found)} could saturate; session.x64quantprecision prevents it, and has to "
            "be set wherever the artefact runs",
        )
        return
    text = f"products of 8 bits saturate in {_layers(found)}"
    computed = {case.case for case in measured.cases if case.cpu}
    # what fails where nothing saturates has another cause
    guilty = bool(failing) and (found.here or failing <= computed)
    if not any(layer.saturated for layer in found.layers):
        yield Finding(Grade.PASS, _WHAT, f"{_layers(found)} could saturate; no pair did")
    elif not found.included:
        yield Finding(Grade.PASS, _WHAT, f"{text}; the manifest's `cpus` leave such CPUs out")
    elif guilty:
        yield Finding(Grade.FAIL, _WHAT, f"{text}. {_PREVENT}")
    elif failing:
        yield Finding(Grade.PASS, _WHAT, f"{text}; it fails where nothing saturates too")
    else:
        yield Finding(Grade.PASS, _WHAT, f"{text}, within the tolerance")


def _layers(found: SaturationMeasurement) -> str:
    """How many layers, and the worst of them."""
    layers = [layer for layer in found.layers if layer.saturated] or list(found.layers)
    shown = [f"{layer.node} ({layer.operator}, {_share(layer)})" for layer in layers[:_NAMED]]
    more = ", ..." if len(layers) > _NAMED else ""
    return f"{len(layers)} layer{'s' * (len(layers) != 1)}: {', '.join(shown)}{more}"


def _share(layer: SaturatedLayer) -> str:
    if layer.saturated:
        return f"{layer.saturated:.2%} of its pairs"
    if layer.saturable is None:
        return "of computed weights"
    return f"{layer.saturable:.2%} of its pairs of weights"


def portability(found: PortabilityMeasurement | None, *, blamed: bool) -> Iterator[Finding]:
    """Tells what weights of 7 bits cost, and how to have 8.

    Args:
        found: What they cost; None where it was not measured.
        blamed: Whether the outputs are not as they should be: then it is a warning.
    """
    if found is None:
        return
    lost = f"cost {found.cost_db:.1f} dB" if found.cost_db > 0 else "cost nothing"
    yield Finding(
        Grade.WARN if blamed and found.cost_db > _HEAVY_DB else Grade.PASS,
        "weights of 7 bits",
        f"{lost} ({found.sqnr_db:.1f} dB, {found.eight_bits_db:.1f} dB with 8), for the sake of "
        'x86 without VNNI. If the artefact never runs there: cpus = ["x86-vnni", "arm64"]',
    )
