"""What a check is held to, and how much of each limit it uses up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import (
    AccuracyMeasurement,
    EquivalenceMeasurement,
    ExportMeasurement,
    FileCheck,
    LatencyMeasurement,
    MutationMeasurement,
    QuantizationMeasurement,
)
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.verdict import Limit

__all__ = ["Margin", "limits", "margins", "used"]

#: budgets of speed and memory -> whether more is better
_OF_LATENCY = {
    "min_speedup": True,
    "min_speedup_over_fp32": True,
    "max_p95_ms": False,
    "min_throughput": True,
    "max_load_s": False,
    "max_memory_mb": False,
}

#: limits of a share that is 1 at best: what they use up is the distance from that, as of a cosine
_SHARES = ("min_coverage", "min_mutation_score")


@dataclass(frozen=True)
class Margin:
    """What was measured of one limit, where it is nearest to the limit or farthest beyond it.

    Attributes:
        limit: The limit.
        value: What was measured.
        share: How much of the limit it uses up; above 1 it is beyond it.
        where: The case and the output, if that matters.
    """

    limit: Limit
    value: float
    share: float
    where: str = ""


def limits(check: str, target: str | None, variant: Variant) -> tuple[Limit, ...]:
    """What a check of a variant is held to, so far as it is numbers of the manifest or built in.

    Args:
        check: The check's name; one of a project's own has no limits.
        target: The target it runs on.
        variant: The variant, with its tolerance and budget.
    """
    return tuple(_limits(check, target or "", variant))


def _limits(check: str, target: str, variant: Variant) -> Iterator[Limit]:
    budget, tolerance = variant.budget, variant.tolerance
    quantized = check == "quantization"
    if quantized or (check == "export" and variant.precision == "fp32"):
        yield from _one("budget.max_size_mb", budget.max_size_mb)
        yield from _one("budget.max_transferred_mb", budget.max_transferred_mb)
    if quantized:
        yield from _one("budget.max_size_ratio", budget.max_size_ratio)
        yield from _one("budget.min_coverage", budget.min_coverage, larger=True)
    if check == "target":
        shares = budget.max_cpu_fallback or {}
        yield from _one(f"budget.max_cpu_fallback.{target}", shares.get(target, shares.get("*")))
    if check == "equivalence":
        yield from _tolerated(tolerance)
    if check == "accuracy":
        yield from _one("accuracy.max_drop", variant.max_drop)
    if check == "mutation":
        key = "tolerance.min_mutation_score"
        yield from _one(key, tolerance.min_mutation_score, larger=True)
    if check == "latency":
        for key, larger in _OF_LATENCY.items():
            table: Mapping[str, float] = getattr(budget, key) or {}
            yield from _one(f"budget.{key}.{target}", table.get(target), larger=larger)
        yield from _one("budget.max_regression", budget.max_regression)


def _one(key: str, value: float | None, *, larger: bool = False) -> Iterator[Limit]:
    if value is not None:
        yield Limit(key, value, value, larger)


def _tolerated(tolerance: s.Tolerance) -> Iterator[Limit]:
    if tolerance.policy == "noise-floor":
        yield Limit("tolerance.safety", tolerance.floors, tolerance.floors)
    for metric, larger in s.METRICS.items():
        bounds = getattr(tolerance, metric)
        if isinstance(bounds, s.Bounds):
            yield Limit(f"tolerance.{metric}", bounds.passes, bounds.fails, larger)


def margins(entry: Entry) -> list[Margin]:
    """How much of each of its limits a check uses up; limits that nothing was measured of lack."""
    return used(entry.limits, entry.measurement)


def used(held_to: Iterable[Limit], measured: object) -> list[Margin]:
    """How much of each limit a measurement uses up; limits that nothing was measured of lack."""
    found = []
    for limit in held_to:
        key = limit.key.split(".")[1]
        each = [
            Margin(limit, value, _share(limit, key, value), where)
            for value, where in _measured(measured, key)
        ]
        found += [max(each, key=lambda margin: margin.share)] if each else []
    return found


def _share(limit: Limit, key: str, value: float) -> float:
    if key in s.METRICS:
        return s.share_used(key, value, limit.fails)
    if key in _SHARES:
        value, allowed = 1 - value, 1 - limit.fails
        return value / allowed if allowed else float("inf") if value > 0 else 0.0
    over, under = (limit.fails, value) if limit.larger_is_better else (value, limit.fails)
    return over / under if under else float("inf") if over > 0 else 0.0


def _measured(measured: object, key: str) -> Iterable[tuple[float, str]]:
    """What was measured of a limit, once or once a case and output, and where."""
    found: dict[str, float | None] = {}
    if isinstance(measured, EquivalenceMeasurement):
        return _outputs(measured, key)
    if isinstance(measured, ExportMeasurement):
        found = _sizes(measured.file)
    elif isinstance(measured, QuantizationMeasurement):
        coverage = measured.coverage
        found = _sizes(measured.file)
        found["max_size_ratio"] = measured.size_ratio
        shares = (coverage.weights, coverage.compute) if coverage else ()
        found["min_coverage"] = min((one for one in shares if one is not None), default=None)
    elif isinstance(measured, AccuracyMeasurement):
        found["max_drop"] = measured.drop
    elif isinstance(measured, MutationMeasurement):
        found["min_mutation_score"] = measured.score
    elif isinstance(measured, LatencyMeasurement):
        found = _times(measured)
    value = found.get(key)
    return () if value is None else ((value, ""),)


def _sizes(file: FileCheck) -> dict[str, float | None]:
    transferred = file.transferred_bytes
    return {
        "max_size_mb": file.size_bytes / 1e6,
        "max_transferred_mb": None if transferred is None else transferred / 1e6,
    }


def _times(measured: LatencyMeasurement) -> dict[str, float | None]:
    memory = measured.memory_bytes
    if measured.device_memory_bytes is not None:
        memory = measured.device_memory_bytes
    return {
        "min_speedup": measured.speedup,
        "min_speedup_over_fp32": measured.speedup_over_fp32,
        "max_p95_ms": 1e3 * measured.onnxruntime.p95,
        "min_throughput": measured.throughput,
        "max_load_s": measured.load_seconds,
        "max_memory_mb": None if memory is None else memory / 1e6,
    }


def _outputs(measured: EquivalenceMeasurement, key: str) -> Iterator[tuple[float, str]]:
    """A metric of every output; thresholds hold for the cases that the manifest declares."""
    cases = measured.cases if key == "safety" else measured.declared
    for case in cases:
        if case.lenient:
            continue
        for output in case.outputs:
            floor = output.floor
            value = getattr(output, key, None)
            if key == "safety":
                value = None if floor is None else floor.farthest
            if value is not None:
                yield value, f"{case.case}, output {output.name!r}"
