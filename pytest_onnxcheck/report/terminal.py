"""The summary at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pytest_onnxcheck.judge.frontier import Frontier, frontiers
from pytest_onnxcheck.measurement import EquivalenceMeasurement, MutationMeasurement
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.report import frontier
from pytest_onnxcheck.report.recommend import recommendations
from pytest_onnxcheck.report.table import table_lines, warnings
from pytest_onnxcheck.report.text import survivor
from pytest_onnxcheck.wording import several

__all__ = ["summary"]

_MARKUP = {"FAIL": {"red": True}, "XPASS": {"red": True}, "warn": {"yellow": True}}
_MARKUP |= {"pass": {"green": True}}


#: unnoticed faults shown of one artefact
_MOST_SURVIVORS = 3


def summary(
    entries: Iterable[Entry], *, whole_frontier: bool = False
) -> Iterator[tuple[str, dict[str, bool]]]:
    """The lines of the summary, each with its markup.

    The table, what to release of each model, what portable weights cost, what got no probes or was
    left out of them, the warnings, and the mutants nobody noticed; with `whole_frontier` also what
    every variant costs and loses.
    """
    entries = list(entries)
    table = table_lines(entries)
    for text, line in zip(_aligned(table), table, strict=True):
        yield text, {"bold": True} if line is table[0] else _MARKUP.get(line[-1], {})
    found = frontiers(entries)
    if whole_frontier:
        yield from _frontier(found)
    for one in found:
        if (proposal := frontier.proposal(one)) is not None:
            yield f"release  {proposal}", {"green": True} if one.released else {"yellow": True}
    yield from ((text, {}) for text in _portability(entries))
    yield from ((text, {}) for text in _unprobed(entries))
    yield from ((text, {}) for text in _skipped_probes(entries))
    for text in warnings(entries):
        yield text, {"yellow": True}
    yield from ((text, {}) for text in _mutants(entries))
    yield from ((text, {}) for text in recommendations(entries))


def _frontier(found: Iterable[Frontier]) -> Iterator[tuple[str, dict[str, bool]]]:
    """The frontier of every model, without the columns that its heading tells."""
    shown = [i for i, name in enumerate(frontier.HEADER) if name not in ("model", "at")]
    for one in found:
        yield "", {}
        at = f" (latency on {one.point})" if one.point else ""
        yield f"frontier  {one.model}{at}", {"bold": True}
        lines = [frontier.HEADER, *(frontier.cells(one, each) for each in one.candidates)]
        texts = _aligned([[line[i] for i in shown] for line in lines])
        yield next(texts), {}
        for text, each in zip(texts, one.candidates, strict=True):
            yield text, {"green": True} if each.release else _MARKUP.get(each.state, {})
    yield "", {}


def _aligned(lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns one below the other; those in which no line but the first says anything are left."""
    used = [i for i in range(len(lines[0])) if any(line[i] != "-" for line in lines[1:])]
    widths = {i: max(len(line[i]) for line in lines) for i in used}
    for line in lines:
        yield "  ".join(line[i].ljust(widths[i]) for i in used).rstrip()


def _portability(entries: Iterable[Entry]) -> Iterator[str]:
    """What weights of 7 bits cost where they cost most."""
    costs = [
        (entry.measurement.portability, entry.nodeid)
        for entry in entries
        if isinstance(entry.measurement, EquivalenceMeasurement) and entry.measurement.portability
    ]
    if not costs:
        return
    worst, nodeid = max(costs, key=lambda cost: cost[0].cost_db)
    if worst.cost_db > 0:
        yield (
            f"portable  weights of 7 bits, for x86 without VNNI, cost up to {worst.cost_db:.1f} dB "
            f"({nodeid}: {worst.sqnr_db:.1f} dB, {worst.eight_bits_db:.1f} dB with 8 bits); where "
            'it never runs: cpus = ["x86-vnni", "arm64"]'
        )


def _unprobed(entries: Iterable[Entry]) -> Iterator[str]:
    """One line per reason why artefacts were held to what the manifest declares alone."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        if isinstance(entry.measurement, EquivalenceMeasurement):
            held = entry.measurement.held_to
            if held is not None and not held.probes:
                found.setdefault(held.unprobed, []).append(f"{entry.model}::{entry.variant}")
    for reason, names in found.items():
        yield f"no probes  {several(names, 1)}: {reason}"


def _skipped_probes(entries: Iterable[Entry]) -> Iterator[str]:
    """One line per model and reason for which probes are left out by name."""
    found: dict[tuple[str, str], None] = {}
    for entry in entries:
        if isinstance(entry.measurement, EquivalenceMeasurement) and entry.measurement.held_to:
            for skipped in entry.measurement.held_to.skipped:
                found[entry.model, f"{skipped.name!r}: {skipped.reason}"] = None
    for model, text in found:
        yield f"left out  {model}: probe {text}"


def _mutants(entries: Iterable[Entry]) -> Iterator[str]:
    """How many injected faults were noticed in all, and those that were not."""
    counted: Counter[str] = Counter()
    for entry in entries:
        if not isinstance(entry.measurement, MutationMeasurement):
            continue
        mutants = entry.measurement.mutants
        counted.update(mutant.result for mutant in mutants)
        survived = [mutant for mutant in mutants if mutant.result == "survived"]
        for mutant in survived[:_MOST_SURVIVORS]:
            yield f"survived  {entry.nodeid}: {survivor(mutant)}"
        if len(survived) > _MOST_SURVIVORS:
            yield f"survived  … and {len(survived) - _MOST_SURVIVORS} more there, in the record"
    changed = counted["killed"] + counted["survived"]
    if changed:
        yield (
            f"mutants: {counted['killed']} of {changed} injected faults were noticed "
            f"({counted['killed'] / changed:.3f}); {counted['equivalent']} more changed no output"
        )
