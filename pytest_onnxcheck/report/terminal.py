"""The summary at the end of a run, within the terminal's width."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pytest_onnxcheck.judge.frontier import Frontier, frontiers
from pytest_onnxcheck.measurement import EquivalenceMeasurement, MutationMeasurement
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.rows import Row, rows
from pytest_onnxcheck.report import frontier
from pytest_onnxcheck.report.layout import Line, fitted, wrapped
from pytest_onnxcheck.report.recommend import recommendations
from pytest_onnxcheck.report.resting import left_out, rests_on, unprobed
from pytest_onnxcheck.report.text import survivor
from pytest_onnxcheck.report.variants import MARKUP, faults, listed_variants, rank, symbol
from pytest_onnxcheck.report.warned import grouped_warnings, warnings
from pytest_onnxcheck.wording import several

__all__ = ["Shown", "summary", "told"]

#: unnoticed faults shown of one artefact
_MOST_SURVIVORS = 3

#: more variants than these are counted, where none of their model is red
_MOST_VARIANTS = 16

_RED = ("FAIL", "XPASS")


@dataclass(frozen=True)
class Shown:
    """How much is shown, and where.

    Attributes:
        width: Characters a line.
        verbosity: pytest's: below zero a line or two, above it everything.
        plain: Whether there are no other signs than ASCII's.
        whole_frontier: Whether to show what every variant costs and loses.
    """

    width: int = 80
    verbosity: int = 0
    plain: bool = False
    whole_frontier: bool = False


def summary(entries: Iterable[Entry], shown: Shown) -> Iterator[Line]:
    """The lines of the summary, each with its markup.

    The models, the worst first, with what is red of them and what to release; what portable
    weights cost, what got no probes or was left out of them, the warnings, and the mutants nobody
    noticed. Recipes that were tried and the whole frontier stand behind, for they were asked for.
    """
    for text, markup in _summary(list(entries), shown):
        yield text.replace("…", "...") if shown.plain else text, markup


def _summary(entries: Sequence[Entry], shown: Shown) -> Iterator[Line]:
    found, width = frontiers(entries), shown.width
    if shown.verbosity < 0:
        yield from _in_short(entries, shown)
    else:
        yield from _models(entries, found, shown)
        for text in _notes(entries, verbose=shown.verbosity > 0):
            yield from told(text, width)
        said = warnings(entries) if shown.verbosity > 0 else grouped_warnings(entries)
        for text in said:
            yield from told(text, width, {"yellow": True})
        for text in _mutants(entries):
            yield from told(text, width)
    if shown.whole_frontier:
        yield from _frontier(found, width)
    yield from recommendations(entries, width)


def told(text: str, width: int, markup: dict[str, bool] | None = None) -> Iterator[Line]:
    """A text that begins with what kind it is, in lines."""
    yield from ((line, markup or {}) for line in wrapped(text, width, "", "  "))


def _in_short(entries: Sequence[Entry], shown: Shown) -> Iterator[Line]:
    """How many variants passed, and which did not."""
    found = rows(entries)
    red = [row for row in found if row.verdict() in _RED]
    worst = min((row.verdict() for row in found), key=rank)
    text = f"{symbol(worst, plain=shown.plain)} onnxcheck: {_counts(found)}"
    if red:
        text += f": {several([f'{row.model}::{row.variant}' for row in red], 2)}"
    yield from told(text, shown.width, MARKUP.get(worst))


def _counts(found: Sequence[Row]) -> str:
    """How many variants there are of each verdict, the worst first."""
    counted = Counter(row.verdict() for row in found)
    if len(counted) == 1:
        (verdict,) = counted
        return f"{_variants(len(found))} {verdict}"
    each = ", ".join(f"{counted[state]} {state}" for state in sorted(counted, key=rank))
    return f"{_variants(len(found))}: {each}"


def _variants(count: int) -> str:
    return f"{count} variant{'s' * (count != 1)}"


def _models(entries: Sequence[Entry], found: Iterable[Frontier], shown: Shown) -> Iterator[Line]:
    """Every model, the worst first; of those that are red every variant."""
    models: dict[tuple[str, str], list[Row]] = {}
    for row in rows(entries):
        models.setdefault((row.manifest, row.model), []).append(row)
    ranked = sorted(models.items(), key=lambda item: _worst(item[1]))
    proposals = {(each.manifest, each.model): each for each in found}
    every = shown.verbosity > 0
    all_of_them = every or sum(map(len, models.values())) <= _MOST_VARIANTS
    listed = [
        sorted(model, key=lambda row: rank(row.verdict()))
        if all_of_them or _worst(model) <= rank("XPASS")
        else []
        for _, model in ranked
    ]
    head, lines = listed_variants(listed, shown.width, every=every, plain=shown.plain)
    if head.strip() != "variant":  # nothing was measured
        yield head, {"bold": True}
    for (key, model), variants in zip(ranked, lines, strict=True):
        yield from _heading(key[1], model, shown)
        known: dict[str, str] = {}
        for row, each in variants:
            yield from each
            yield from faults(row, shown.width, known)
        yield from _release(proposals.get(key), shown.width)


def _worst(model: Iterable[Row]) -> int:
    return min(rank(row.verdict()) for row in model)


def _heading(name: str, model: Sequence[Row], shown: Shown) -> Iterator[Line]:
    """A model, how its variants are, and what that rests on."""
    state = min((row.verdict() for row in model), key=rank)
    text = f"{symbol(state, plain=shown.plain)} {name}  {_counts(model)}"
    markup = {**MARKUP.get(state, {}), "bold": True}
    rested = rests_on(model)
    if rested and len(text) + len(rested) + 2 <= shown.width:
        yield f"{text}  {rested}", markup
        return
    yield text, markup
    if rested:
        yield from ((line, {}) for line in wrapped(rested, shown.width, "    "))


def _release(found: Frontier | None, width: int) -> Iterator[Line]:
    proposal = None if found is None else frontier.proposal(found)
    if found is None or proposal is None:
        return
    text = f"release  {proposal.removeprefix(f'{found.model}: ')}"
    markup = {"green": True} if found.released else {"yellow": True}
    yield from ((line, markup) for line in wrapped(text, width, "    ", "      "))


def _frontier(found: Iterable[Frontier], width: int) -> Iterator[Line]:
    """The frontier of every model, without the columns that its heading tells."""
    shown = [i for i, name in enumerate(frontier.HEADER) if name not in ("model", "at")]
    for one in found:
        yield "", {}
        at = f" (latency on {one.point})" if one.point else ""
        yield f"frontier  {one.model}{at}", {"bold": True}
        header, *table = (
            [line[i] for i in shown]
            for line in (frontier.HEADER, *(frontier.cells(one, each) for each in one.candidates))
        )
        texts = fitted(header, table, width)
        yield next(texts)[0], {}
        for lines, each in zip(texts, one.candidates, strict=True):
            markup = {"green": True} if each.release else MARKUP.get(each.state, {})
            yield from ((line, markup) for line in lines)
    yield "", {}


def _notes(entries: Sequence[Entry], *, verbose: bool) -> Iterator[str]:
    """What portable weights cost, what was held to no probes, and which were left out."""
    if (cost := _portability(entries)) is not None:
        yield cost
    reasons = unprobed(entries)
    if verbose or len(reasons) == 1:
        yield from (f"no probes  {reason}" for reason in reasons)
    elif reasons:
        yield f"no probes  for {len(reasons)} reasons (-v): {reasons[0]}"
    for model, name, reason in left_out(entries):
        yield f"left out  {model}: probe {name!r}: {reason}"


def _portability(entries: Iterable[Entry]) -> str | None:
    """What weights of 7 bits cost where they cost most."""
    costs = [
        (entry.measurement.portability, entry)
        for entry in entries
        if isinstance(entry.measurement, EquivalenceMeasurement) and entry.measurement.portability
    ]
    worst, entry = max(costs, key=lambda cost: cost[0].cost_db, default=(None, None))
    if worst is None or entry is None or worst.cost_db <= 0:
        return None
    return (
        f"portable  weights of 7 bits, for x86 without VNNI, cost up to {worst.cost_db:.1f} dB "
        f"({entry.model}::{entry.variant}: {worst.sqnr_db:.1f} dB, {worst.eight_bits_db:.1f} dB "
        'with 8 bits); where it never runs: cpus = ["x86-vnni", "arm64"]'
    )


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
