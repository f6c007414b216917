"""One row per model and variant: what the checks of a variant found, taken together."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pytest_onnxcheck.measurement import (
    AccuracyMeasurement,
    EquivalenceMeasurement,
    ExportMeasurement,
    HeldTo,
    LatencyMeasurement,
    OutputMeasurement,
    QuantizationMeasurement,
)
from pytest_onnxcheck.record.entry import Entry

__all__ = ["Costs", "FrontierRow", "Row", "rows"]

M = TypeVar("M")

_ORDER = ("failed", "xpassed", "xfailed", "warn", "passed", "skipped")
_SHOWN = {"failed": "FAIL", "xpassed": "XPASS", "passed": "pass", "skipped": "skip"}
_SHOWN |= {"warn": "warn", "xfailed": "xfail"}


@dataclass(frozen=True)
class Costs:
    """What one variant costs and what it loses; None is what was not measured.

    Attributes:
        variant: Its name.
        state: Its verdict, as in the table.
        complete: Whether the run made, or tried, every check it has.
        failed: Checks that failed or were expected to, and those of its fp32 artefact.
        unjudged: Checks a release needs that were skipped on every target; latency where a budget
            for it was not measured.
        size_bytes: Bytes on disk, external data included.
        size_ratio: The same as a share of the fp32 artefact's.
        latency_ms: Median time of ONNX Runtime at the frontier's point, in milliseconds.
        speed: What variants are compared by: `speedup`, or where the fp32 artefact was timed
            beside it, that one's times `speedup_over_fp32`.
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
    failed: tuple[str, ...] = ()
    unjudged: tuple[str, ...] = ()
    size_bytes: int | None = None
    size_ratio: float | None = None
    latency_ms: float | None = None
    speed: float | None = None
    speedup: float | None = None
    speedup_over_fp32: float | None = None
    rel_rms: float | None = None
    top1: float | None = None
    accuracy_drop: float | None = None
    coverage: float | None = None
    dominated_by: str | None = None
    release: bool = False


@dataclass(frozen=True)
class FrontierRow(Costs):
    """What one variant costs and loses, for plots, and where it belongs.

    Attributes:
        manifest: The manifest's path.
        model: The model.
        target: The target that its latency was measured on.
        dims: Values of the symbolic dims there.
        passes: Whether it may be released.
        sqnr_db: `rel_rms` as a signal-to-quantization-noise ratio in dB.
    """

    manifest: str = ""
    model: str = ""
    target: str | None = None
    dims: dict[str, int] = field(default_factory=dict)
    passes: bool = False
    sqnr_db: float | None = None


@dataclass
class Row:
    """One model and variant with the entries of its checks."""

    manifest: str
    model: str
    variant: str
    entries: list[Entry] = field(default_factory=list)

    def of(self, check: str) -> list[Entry]:
        """The entries of one check."""
        return [entry for entry in self.entries if entry.check == check]

    def measured(self, kind: type[M]) -> list[M]:
        """What one kind of check measured; checks that measured nothing are left out."""
        return [entry.measurement for entry in self.entries if isinstance(entry.measurement, kind)]

    def state(self, check: str | None = None) -> str:
        """The worst outcome of one check, or of all; a dash when there is none."""
        entries = self.entries if check is None else self.of(check)
        states = {entry.state for entry in entries}
        return next((_SHOWN[state] for state in _ORDER if state in states), "-")

    def state_on(self, target: str) -> str:
        """The worst outcome of the checks that run on a target; a dash when there is none."""
        entries = [entry for entry in self.entries if entry.target == target]
        return Row(self.manifest, self.model, self.variant, entries).state()

    def verdict(self) -> str:
        """The worst outcome; `partial` where all is well but a whole kind of check was skipped.

        That is, of those that every target has: `test_target` is about accelerators alone.
        """
        state = self.state()
        kinds = {entry.check for entry in self.entries} - {"target"}
        skipped = any(self.state(kind) == "skip" for kind in kinds)
        return "partial" if state in ("pass", "warn") and skipped else state

    @property
    def is_fp32(self) -> bool:
        """Whether its file is the exported one; other precisions have a file of their own."""
        return self.entries[0].precision == "fp32"

    @property
    def recipe(self) -> tuple[str, int | None]:
        """Exporter and opset: variants of one recipe are made from the same fp32 artefact."""
        return self.entries[0].exporter, self.entries[0].opset

    def size_bytes(self) -> int | None:
        """Bytes on disk; None when its own file was not measured."""
        found: Sequence[ExportMeasurement | QuantizationMeasurement]
        if self.is_fp32:
            found = self.measured(ExportMeasurement)
        else:
            found = self.measured(QuantizationMeasurement)
        return found[0].file.size_bytes if found else None

    def size_ratio(self) -> float | None:
        """Bytes on disk as a share of the fp32 artefact's."""
        found = self.measured(QuantizationMeasurement)
        return next((measured.size_ratio for measured in found if measured.float_bytes), None)

    def coverage(self) -> float | None:
        """Share of the multiply-accumulates that carry the precision."""
        found = (measured.coverage for measured in self.measured(QuantizationMeasurement))
        return next((coverage.compute for coverage in found if coverage is not None), None)

    def rel_rms(self) -> float | None:
        """Worst ||a - e|| / ||e|| over the declared cases' floating outputs, on all targets."""
        found = (output.rel_rms for output in self._floats())
        return max((value for value in found if value is not None), default=None)

    def top1(self) -> float | None:
        """Smallest share of rows whose largest element is the same, over the same outputs."""
        found = (output.top1 for output in self._floats())
        return min((value for value in found if value is not None), default=None)

    def max_abs(self) -> float | None:
        """Largest |a - e| over the declared cases' outputs, on all targets."""
        found = (measured.max_abs for measured in self.measured(EquivalenceMeasurement))
        return max((value for value in found if value is not None), default=None)

    def held_to(self) -> HeldTo | None:
        """What its outputs were held to, on the target where that is least."""
        found = (measured.held_to for measured in self.measured(EquivalenceMeasurement))
        known = [held for held in found if held is not None]
        return min(known, key=lambda held: (held.probes, held.cases), default=None)

    def accuracy_drop(self) -> float | None:
        """How much worse than PyTorch's the task metric is, on the target where it is worst."""
        return max((found.drop for found in self.measured(AccuracyMeasurement)), default=None)

    def speed(self) -> dict[str, LatencyMeasurement]:
        """The latencies, by point (`TARGET-DIMS`)."""
        return {
            entry.point: entry.measurement
            for entry in self.entries
            if isinstance(entry.measurement, LatencyMeasurement)
        }

    def to_json(self) -> dict[str, Any]:
        """What the tables show of it, as JSON has it; None for what was not measured."""
        checks = dict.fromkeys(entry.check for entry in self.entries)
        return {
            "manifest": self.manifest,
            "model": self.model,
            "variant": self.variant,
            "verdict": self.verdict(),
            "checks": {check: self.state(check) for check in checks},
            "max_abs": self.max_abs(),
            "rel_rms": self.rel_rms(),
            "top1": self.top1(),
            "accuracy_drop": self.accuracy_drop(),
            "coverage": self.coverage(),
            "size_bytes": self.size_bytes(),
            "size_ratio": self.size_ratio(),
            "speed_ups": {
                point: dataclasses.asdict(timed.ratios["torch"])
                for point, timed in self.speed().items()
                if "torch" in timed.ratios
            },
        }

    def _floats(self) -> Iterator[OutputMeasurement]:
        return (output for output in self._declared() if "float" in output.expected_dtype)

    def _declared(self) -> Iterator[OutputMeasurement]:
        """Every output of the cases that the manifest asks for."""
        for measured in self.measured(EquivalenceMeasurement):
            for case in measured.declared:
                yield from case.outputs


def rows(entries: Iterable[Entry]) -> list[Row]:
    """Groups entries by model and variant, in the order of the manifest."""
    found: dict[tuple[str, str, str], Row] = {}
    for entry in entries:
        key = entry.manifest, entry.model, entry.variant
        found.setdefault(key, Row(*key)).entries.append(entry)
    # pytest-xdist hands variants out in an order of its own
    return sorted(found.values(), key=lambda row: row.entries[0].position)
