"""What verdicts rest on: how many cases, probes, sizes and runs of floors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pytest_onnxcheck.measurement import EquivalenceMeasurement
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.rows import Row
from pytest_onnxcheck.wording import several

__all__ = ["left_out", "rests_on", "unprobed"]

#: the noun of one, and the field of `HeldTo`
_COUNTED = (("case", "cases"), ("probe", "probes"), ("size", "sizes"))


def rests_on(rows: Iterable[Row]) -> str:
    """What the outputs of variants were held to, e.g. `3 cases + 2-17 probes + 40 sizes`.

    With how many perturbed runs their noise floors were measured from, where there were any; empty
    where no outputs were compared.
    """
    found = [held for row in rows if (held := row.held_to()) is not None]
    if not found:
        return ""
    counts = [
        _counted([getattr(held, field) for held in found], noun)
        for noun, field in _COUNTED
        if field == "cases" or any(getattr(held, field) for held in found)
    ]
    text = " + ".join(counts)
    runs = [held.perturbed_runs for held in found]
    return f"{text}, floor of {_counted(runs, 'run')}" if any(runs) else text


def unprobed(entries: Iterable[Entry]) -> list[str]:
    """One text a reason why artefacts were held to what the manifest declares alone."""
    found: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        measured = entry.measurement
        held = measured.held_to if isinstance(measured, EquivalenceMeasurement) else None
        if held is not None and not held.probes:
            variants = found.setdefault(held.unprobed, {}).setdefault(entry.model, [])
            variants += [entry.variant] * (entry.variant not in variants)
    return [_without(models, reason) for reason, models in found.items()]


def left_out(entries: Iterable[Entry]) -> list[tuple[str, str, str]]:
    """Model, name and reason of the probes that the manifest's `skip_probes` leaves out."""
    found: dict[tuple[str, str, str], None] = {}
    for entry in entries:
        measured = entry.measurement
        if isinstance(measured, EquivalenceMeasurement) and measured.held_to is not None:
            for skipped in measured.held_to.skipped:
                found[entry.model, skipped.name, skipped.reason] = None
    return list(found)


def _without(models: dict[str, list[str]], reason: str) -> str:
    """Which variants of which models: one by its name, more by their number."""
    named = [
        f"{model}::{variants[0]}" if len(variants) == 1 else f"{len(variants)} of {model}"
        for model, variants in models.items()
    ]
    return f"{several(named, 3)}: {reason}"


def _counted(numbers: Sequence[int], noun: str) -> str:
    """A number, or the smallest and the largest, with its noun."""
    low, high = min(numbers), max(numbers)
    many = "" if high == 1 else "s"
    return f"{low} {noun}{many}" if low == high else f"{low}-{high} {noun}{many}"
