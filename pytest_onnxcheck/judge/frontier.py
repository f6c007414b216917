"""Which variants of a model are worth having, and which one to release.

A variant is **dominated** by another of the same model that passes its checks, is no worse in size,
speed and loss, and better in one of them (Pareto dominance). Where one of the three was not
measured, on either side, nothing is said.

Speed is a ratio to what was timed in turn with the variant, not the latency: variants are timed one
after the other, and what else the machine does meanwhile moves latencies. A variant is timed beside
the fp32 artefact it was made from: its speed is that one's speed-up over PyTorch times its own
speed-up over that one, so that the two are ordered as they were measured against each other. (Its
own speed-up over PyTorch would not do: PyTorch is slower where one more takes turns.)

The variant to **release** is, of those that pass and are not dominated, the fastest; of those
within 5% of the fastest, the smallest; of those within 1% of that, the one that loses least
(`preference.preferred`, as for `--onnxcheck-recommend`). Where no latency was measured it is the
smallest; where some was, a variant without one is not proposed. How much it loses matters no more
than that: the manifest's tolerances and budgets have already said that it will do.

A variant **passes** when no check of it failed, was expected to fail or passed unexpectedly, nor
export, structure or equivalence of the fp32 artefact it was made from, and each of export,
structure, equivalence, its quantization and, where the model has one, accuracy was made on one
target at least. Warnings, a target that this machine lacks, and latency that was not measured do
not stand in its way; latency does where there is a budget for it on a target that was there.

Of a run that left out a check or a variant of the model nothing is released.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable
from dataclasses import dataclass, replace

from pytest_onnxcheck.measurement import LatencyMeasurement, sqnr_db
from pytest_onnxcheck.preference import preferred
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.rows import Costs, Row, rows

__all__ = ["Candidate", "Frontier", "frontiers"]

#: checks that a release needs, also of the fp32 artefact it was made from
_OF_A_FILE = frozenset({"export", "structure", "equivalence"})

_FAILED = ("failed", "xfailed", "xpassed")


@dataclass(frozen=True)
class Candidate(Costs):
    """What one variant costs and loses, as candidates for a release are compared."""

    @property
    def passes(self) -> bool:
        """Whether it passes, as the module's head says."""
        return not self.failed and not self.unjudged

    @property
    def sqnr_db(self) -> float | None:
        """What it loses, as a signal-to-quantization-noise ratio in dB."""
        return None if self.rel_rms is None else sqnr_db(self.rel_rms)

    def dominates(self, other: Candidate) -> bool:
        """Whether it is no worse in size, speed and loss, and better in one."""
        mine, theirs = self._costs(), other._costs()
        if mine is None or theirs is None or mine == theirs:
            return False
        return all(a <= b for a, b in zip(mine, theirs, strict=True))

    def _costs(self) -> tuple[float, float, float] | None:
        if self.size_bytes is None or self.speed is None or self.rel_rms is None:
            return None
        return self.size_bytes, -self.speed, self.rel_rms


@dataclass(frozen=True)
class Frontier:
    """The variants of one model.

    Attributes:
        manifest: Path of its manifest.
        model: Its name.
        target: The first target on which speed was measured; None when it was not.
        dims: The first dims at which it was; the speeds compared are those of this one point.
        whole: Whether the run made, or tried, every check of every variant.
        candidates: Its variants, in the order of the manifest.
    """

    manifest: str
    model: str
    target: str | None
    dims: dict[str, int]
    whole: bool
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

    @property
    def untimed(self) -> tuple[str, ...]:
        """The variants that lack nothing but a measurement of their speed budget."""
        return tuple(
            found.variant
            for found in self.candidates
            if not found.failed and found.unjudged == ("latency",)
        )


def frontiers(entries: Iterable[Entry], model: str = "*") -> list[Frontier]:
    """One frontier per model whose name matches a glob, in the order of the manifest."""
    grouped: dict[tuple[str, str], list[Row]] = {}
    for row in rows(entries):
        if fnmatch.fnmatchcase(row.model, model):
            grouped.setdefault((row.manifest, row.model), []).append(row)
    return [_frontier(*key, found) for key, found in grouped.items()]


def _frontier(manifest: str, model: str, found: list[Row]) -> Frontier:
    measured = [latency for row in found for latency in row.measured(LatencyMeasurement)]
    target, dims = (measured[0].target, measured[0].dims) if measured else (None, {})
    candidates = [_candidate(row, _fp32(row, found), target, dims) for row in found]
    variants = found[0].entries[0].planned.variants
    whole = len(found) >= variants and all(candidate.complete for candidate in candidates)
    passing = [candidate for candidate in candidates if candidate.passes]
    best = [one for one in passing if not any(other.dominates(one) for other in passing)]
    chosen = _chosen(best) if whole else None
    return Frontier(
        manifest,
        model,
        target,
        dims,
        whole,
        tuple(
            replace(
                one,
                dominated_by=next((other.variant for other in best if other.dominates(one)), None),
                release=one is chosen,
            )
            for one in candidates
        ),
    )


def _fp32(row: Row, found: list[Row]) -> Row | None:
    """The fp32 artefact that another precision was made from; None for fp32 itself."""
    made_from = (other for other in found if other.is_fp32 and other.recipe == row.recipe)
    return None if row.is_fp32 else next(made_from, None)


def _candidate(row: Row, fp32: Row | None, target: str | None, dims: dict[str, int]) -> Candidate:
    latency = _latency(row, target, dims)
    speedup = None if latency is None else latency.speedup
    over_fp32 = None if latency is None else latency.speedup_over_fp32
    beside = None if fp32 is None else _latency(fp32, target, dims)
    size, checks = row.size_bytes(), {entry.nodeid for entry in row.entries}
    return Candidate(
        variant=row.variant,
        state=row.verdict(),
        complete=_needed(row) <= _checks(row) and len(checks) >= row.entries[0].planned.checks,
        failed=_failed(row, fp32),
        unjudged=_unjudged(row),
        size_bytes=size,
        size_ratio=1.0 if row.is_fp32 and size is not None else row.size_ratio(),
        latency_ms=None if latency is None else 1e3 * latency.onnxruntime.median,
        speed=speedup if beside is None or over_fp32 is None else beside.speedup * over_fp32,
        speedup=speedup,
        speedup_over_fp32=over_fp32,
        rel_rms=row.rel_rms(),
        top1=row.top1(),
        accuracy_drop=row.accuracy_drop(),
        coverage=row.coverage(),
    )


def _latency(row: Row, target: str | None, dims: dict[str, int]) -> LatencyMeasurement | None:
    at_point = (
        latency
        for latency in row.measured(LatencyMeasurement)
        if (latency.target, latency.dims) == (target, dims)
    )
    return next(at_point, None)


def _checks(row: Row, *outcomes: str) -> set[str]:
    """The checks that were made, or those with one of the outcomes."""
    return {entry.check for entry in row.entries if not outcomes or entry.outcome in outcomes}


def _needed(row: Row) -> set[str]:
    return {*_OF_A_FILE, *(() if row.is_fp32 else ("quantization",))}


def _failed(row: Row, fp32: Row | None) -> tuple[str, ...]:
    own = sorted(_checks(row, *_FAILED))
    if fp32 is None:
        return tuple(own)
    of_fp32 = sorted(_checks(fp32, *_FAILED) & _OF_A_FILE)
    return *own, *(f"{check} of {fp32.variant}" for check in of_fp32)


def _unjudged(row: Row) -> tuple[str, ...]:
    needed = _needed(row) | (_checks(row) & {"accuracy"})
    # a target that this machine lacks has no equivalence
    present = {entry.target for entry in row.of("equivalence") if entry.outcome == "passed"}
    timed = {latency.target for latency in row.measured(LatencyMeasurement)}
    unjudged = needed - _checks(row, "passed", *_FAILED)
    if set(row.entries[0].planned.speed_budget) & present - timed:
        unjudged.add("latency")
    return tuple(sorted(unjudged))


def _chosen(best: list[Candidate]) -> Candidate | None:
    """The one to release, of those that pass and are not dominated."""
    timed = [one for one in best if one.speed is not None] or best
    chosen = preferred(
        [(1 / (one.speed or 1), one.size_bytes or 0, one.rel_rms or 0.0) for one in timed]
    )
    return None if chosen is None else timed[chosen]
