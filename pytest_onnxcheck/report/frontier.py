"""Which variants of a model are worth having, and which one to release.

A variant is **dominated** by another of the same model that passes its checks, is no worse in size,
speed and loss, and better in one of them (Pareto dominance). Where one of the three was not
measured, on either side, nothing is said.

Speed is the speed-up over PyTorch, not the latency: variants are timed one after the other, and
what else the machine does meanwhile moves latencies; PyTorch's calls, interleaved with each
variant's, move along.

The variant to **release** is, of those that pass and are not dominated, the fastest; of those
within 5% of the fastest, the smallest; of those within 1% of that, the one that loses least
(`preference.preferred`, as for `--onnxcheck-recommend`). Where no latency was measured it is the
smallest; where some was, a variant without one is not proposed. How much it loses matters no more
than that: the manifest's tolerances and budgets have already said that it will do.

A variant **passes** when no check of it failed, was expected to fail or passed unexpectedly, and
each of export, structure, equivalence, its quantization and, where the model has one, accuracy was
made on one target at least. Warnings, a target that this machine lacks, and latency that was not
measured do not stand in its way.
"""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from pytest_onnxcheck.preference import preferred
from pytest_onnxcheck.report.table import Entry, Row, decibels, number, rows, sqnr_db

__all__ = ["HEADER", "Candidate", "Frontier", "cells", "data", "frontiers", "markdown"]

HEADER = (
    *("model", "variant", "size", "of fp32", "latency", "at", "x PyTorch", "x fp32"),
    *("SQNR", "top-1", "drop", "coverage", "state", "release", "dominated by"),
)


@dataclass(frozen=True)
class Candidate:
    """What one variant costs and what it loses; None is what was not measured.

    Attributes:
        variant: Its name.
        state: Its verdict, as in the table.
        complete: Whether the run made, or tried, every check a release needs.
        passes: Whether it passes, as the module's head says.
        size_bytes: Bytes on disk, external data included.
        size_ratio: The same as a share of the fp32 artefact's.
        latency_ms: Median time of ONNX Runtime at the frontier's point, in milliseconds.
        speedup: PyTorch's time / ONNX Runtime's there.
        speedup_over_fp32: The fp32 artefact's time / this one's there.
        rel_rms: Worst ||a - e|| / ||e|| over the declared cases and their floating outputs.
        top1: Smallest share of rows with the same largest element, over the same.
        accuracy_drop: How much worse than PyTorch's the task metric is, in its own units.
        coverage: Share of the multiply-accumulates that carry the precision.
        dominated_by: A variant that dominates it and is not dominated itself.
        release: Whether it is the one to release.
    """

    variant: str
    state: str
    complete: bool
    passes: bool
    size_bytes: int | None = None
    size_ratio: float | None = None
    latency_ms: float | None = None
    speedup: float | None = None
    speedup_over_fp32: float | None = None
    rel_rms: float | None = None
    top1: float | None = None
    accuracy_drop: float | None = None
    coverage: float | None = None
    dominated_by: str | None = None
    release: bool = False

    def dominates(self, other: Candidate) -> bool:
        """Whether it is no worse in size, speed and loss, and better in one."""
        mine, theirs = self._costs(), other._costs()
        if mine is None or theirs is None or mine == theirs:
            return False
        return all(a <= b for a, b in zip(mine, theirs, strict=True))

    def _costs(self) -> tuple[float, float, float] | None:
        if self.size_bytes is None or self.speedup is None or self.rel_rms is None:
            return None
        return self.size_bytes, -self.speedup, self.rel_rms


@dataclass(frozen=True)
class Frontier:
    """The variants of one model.

    Attributes:
        manifest: Path of its manifest.
        model: Its name.
        target: The first target on which speed was measured; None when it was not.
        dims: The first dims at which it was; the speeds compared are those of this one point.
        candidates: Its variants, in the order of the manifest.
    """

    manifest: str
    model: str
    target: str | None
    dims: dict[str, int]
    candidates: tuple[Candidate, ...]

    @property
    def point(self) -> str:
        """Where latency was measured, e.g. `cpu batch=1`; empty when it was not."""
        dims = (f"{dim}={value}" for dim, value in self.dims.items())
        return " ".join([self.target, *dims]) if self.target else ""

    @property
    def released(self) -> Candidate | None:
        """The variant to release, if any."""
        return next((found for found in self.candidates if found.release), None)

    def proposal(self) -> str | None:
        """What to release, in one line; None where there is nothing to choose from.

        That is: a single variant, or a run of only some of the checks.
        """
        if len(self.candidates) < 2 or not any(found.complete for found in self.candidates):
            return None
        found = self.released
        if found is None:
            return f"{self.model}: none passes its checks"
        facts = [_join(", ", _size(found), _of_fp32(found)), *_speed(found)]
        if found.rel_rms is not None:
            facts.append(decibels(found.rel_rms))
        if found.accuracy_drop is not None:
            facts.append(f"accuracy drop {number(found.accuracy_drop)}")
        if found.state == "warn":
            facts.append("with warnings")
        return f"{self.model}: {found.variant} ({'; '.join(facts)})"


def frontiers(entries: Iterable[Entry], model: str = "*") -> list[Frontier]:
    """One frontier per model whose name matches a glob, in the order of the manifest."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows(entries):
        if fnmatch.fnmatchcase(row.model, model):
            grouped.setdefault((row.entries[0]["manifest"], row.model), []).append(row)
    return [_frontier(*key, found) for key, found in grouped.items()]


def cells(frontier: Frontier, candidate: Candidate) -> tuple[str, ...]:
    """The cells of one variant, in the order of the header."""
    return (
        frontier.model,
        candidate.variant,
        _size(candidate) or "-",
        _shown(candidate.size_ratio, ".2f"),
        "-" if candidate.latency_ms is None else _milliseconds(candidate.latency_ms),
        "-" if candidate.latency_ms is None else frontier.point,
        _shown(candidate.speedup, ".2f"),
        _shown(candidate.speedup_over_fp32, ".2f"),
        "-" if candidate.rel_rms is None else decibels(candidate.rel_rms),
        _shown(candidate.top1, ".3f"),
        "-" if candidate.accuracy_drop is None else number(candidate.accuracy_drop),
        _shown(candidate.coverage, ".2f"),
        candidate.state,
        "yes" if candidate.release else "-",
        candidate.dominated_by or "-",
    )


def markdown(found: Iterable[Frontier]) -> str:
    """The frontiers as one Markdown table."""
    lines = [HEADER, ("---",) * len(HEADER)]
    lines += [cells(frontier, candidate) for frontier in found for candidate in frontier.candidates]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def data(found: Iterable[Frontier]) -> list[dict[str, Any]]:
    """One dict per variant, for plots: what a `Candidate` has, its SQNR, and where it belongs."""
    return [
        {
            "manifest": frontier.manifest,
            "model": frontier.model,
            "target": frontier.target,
            "dims": frontier.dims,
            **dataclasses.asdict(candidate),
            "sqnr_db": None if candidate.rel_rms is None else sqnr_db(candidate.rel_rms),
        }
        for frontier in found
        for candidate in frontier.candidates
    ]


def _frontier(manifest: str, model: str, found: list[Row]) -> Frontier:
    measured = [latency for row in found for latency in row.measured("latency")]
    target, dims = (measured[0]["target"], measured[0]["dims"]) if measured else (None, {})
    candidates = [_candidate(row, target, dims) for row in found]
    passing = [candidate for candidate in candidates if candidate.passes]
    best = [one for one in passing if not any(other.dominates(one) for other in passing)]
    chosen = _chosen(best)
    return Frontier(
        manifest,
        model,
        target,
        dims,
        tuple(
            replace(
                one,
                dominated_by=next((other.variant for other in best if other.dominates(one)), None),
                release=one is chosen,
            )
            for one in candidates
        ),
    )


def _candidate(row: Row, target: str | None, dims: dict[str, int]) -> Candidate:
    kinds = {"export", "structure", "equivalence"} | (set() if row.is_fp32 else {"quantization"})
    made = {entry["check"] for entry in row.entries}
    outcomes = {entry["outcome"] for entry in row.entries}
    passed = {entry["check"] for entry in row.entries if entry["outcome"] == "passed"}
    at_point = (
        latency
        for latency in row.measured("latency")
        if (latency["target"], latency["dims"]) == (target, dims)
    )
    latency = next(at_point, None) or {}
    samples = latency.get("onnxruntime", {}).get("samples")
    size = row.size_bytes()
    return Candidate(
        variant=row.variant,
        state=row.verdict(),
        complete=kinds <= made,
        passes=outcomes <= {"passed", "skipped"} and kinds | (made & {"accuracy"}) <= passed,
        size_bytes=size,
        size_ratio=1.0 if row.is_fp32 and size is not None else row.size_ratio(),
        latency_ms=1e3 * median(samples) if samples else None,
        speedup=_float(latency.get("speedup")),
        speedup_over_fp32=_float(latency.get("speedup_over_fp32")),
        rel_rms=row.rel_rms(),
        top1=row.top1(),
        accuracy_drop=row.accuracy_drop(),
        coverage=row.coverage(),
    )


def _chosen(best: list[Candidate]) -> Candidate | None:
    """The one to release, of those that pass and are not dominated."""
    timed = [one for one in best if one.speedup is not None] or best
    chosen = preferred(
        [(1 / (one.speedup or 1), one.size_bytes or 0, one.rel_rms or 0.0) for one in timed]
    )
    return None if chosen is None else timed[chosen]


def _speed(candidate: Candidate) -> Iterator[str]:
    if candidate.latency_ms is None:
        yield "the smallest, no latency was measured"
        return
    facts = [_milliseconds(candidate.latency_ms), f"{candidate.speedup:.1f}x PyTorch"]
    if candidate.speedup_over_fp32 is not None:
        facts.append(f"{candidate.speedup_over_fp32:.2f}x fp32")
    yield ", ".join(facts)


def _size(candidate: Candidate) -> str:
    return "" if candidate.size_bytes is None else f"{candidate.size_bytes / 1e6:.2f} MB"


def _of_fp32(candidate: Candidate) -> str:
    ratio = candidate.size_ratio
    return "" if ratio is None or ratio == 1 else f"{ratio:.2f} of fp32"


def _join(separator: str, *parts: str) -> str:
    return separator.join(part for part in parts if part)


def _milliseconds(value: float) -> str:
    return f"{value:#.3g}".rstrip(".") + " ms" if value < 1000 else f"{value:.0f} ms"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _float(value: Any) -> float | None:
    """A number of a record, in which infinity is a string."""
    return None if value is None else float(value)
