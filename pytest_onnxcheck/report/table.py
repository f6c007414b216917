"""The table: one line per model and variant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from pytest_onnxcheck.digits import three_digits
from pytest_onnxcheck.manifest.terms import Check
from pytest_onnxcheck.measurement import LatencyMeasurement, MutationMeasurement, sqnr_db
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.record.rows import Row, rows
from pytest_onnxcheck.report.escaping import cell, inline

__all__ = [
    *("HEADER", "cells", "decibels", "file_size", "made_on", "markdown", "number"),
    *("shown", "table_lines"),
]

HEADER = (
    *("model", "variant", "export", "quant", "struct", "equal", "cases", "loss", "drop"),
    *("size", "ratio", "coverage", "mutants", "speed-up", "x fp32", "latency", "verdict"),
)


def table_lines(entries: Iterable[Entry]) -> list[tuple[str, ...]]:
    """The header, and a line per model and variant.

    Checks that a project has added have a column each, under their name, before the verdict; so
    have targets, where something ran on more than one.
    """
    found = rows(entries)
    names = dict.fromkeys(entry.check for row in found for entry in row.entries)
    own = [name for name in names if name not in get_args(Check)]
    targets = _targets(found)
    header = (*HEADER[:-1], *own, *targets, HEADER[-1])
    return [header, *(cells(row, own, targets) for row in found)]


def _targets(found: Sequence[Row]) -> list[str]:
    """The targets that something ran on, where there is more than one."""
    entries = [entry for row in found for entry in row.entries if entry.outcome != "skipped"]
    entries.sort(key=lambda entry: entry.check == "target")  # which accelerators alone have
    names = list(dict.fromkeys(entry.target for entry in entries if entry.target is not None))
    return names if len(names) > 1 else []


def cells(row: Row, own: Sequence[str] = (), targets: Sequence[str] = ()) -> tuple[str, ...]:
    """The cells of one row, in the order of the header.

    Args:
        row: The row.
        own: Checks of the project's.
        targets: Those that have a column.
    """
    size, ratio, coverage = row.size_bytes(), row.size_ratio(), row.coverage()
    return (
        row.model,
        row.variant,
        row.state("export"),
        row.state("quantization"),
        row.state("structure"),
        row.state("equivalence"),
        _cases(row),
        _loss(row),
        _drop(row),
        "-" if size is None else file_size(size),
        "-" if ratio is None else f"{ratio:.2f}",
        "-" if coverage is None else f"{coverage:.2f}",
        _mutants(row),
        _speedup(row),
        _over_fp32(row),
        row.state("latency"),
        *(row.state(check) for check in own),
        *(row.state_on(target) for target in targets),
        row.verdict(),
    )


def markdown(entries: Iterable[Entry]) -> str:
    """The table as Markdown, for docs/zoo.md."""
    header, *found = table_lines(entries)
    shown = [header, ("---",) * len(header), *found]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in shown) + "\n"


def decibels(rel_rms: float) -> str:
    """The ratio as people read it; `exact` where not a bit differs."""
    return "exact" if rel_rms == 0 else f"{sqnr_db(rel_rms):.1f} dB"


def shown(value: float | None, form: str) -> str:
    """A number in a format, a dash where there is none."""
    return "-" if value is None else format(value, form)


def number(value: float) -> str:
    """Two digits, which is more than the drop of a task metric means."""
    return f"{value:.2g}"


def file_size(size_bytes: int) -> str:
    """Bytes as people read them, in three digits: kB below 0.1 MB."""
    unit, size = ("MB", 1e6) if size_bytes >= 1e5 else ("kB", 1e3)
    return f"{three_digits(size_bytes / size)} {unit}"


def _cases(row: Row) -> str:
    """How many declared cases and probes its outputs were held to, `3+17`."""
    held = row.held_to()
    return "-" if held is None else f"{held.cases}+{held.probes}"


def _loss(row: Row) -> str:
    """The largest absolute error of fp32; of other precisions the worst SQNR, in dB."""
    rel_rms = row.rel_rms()
    if not row.is_fp32 and rel_rms is not None:
        return decibels(rel_rms)
    max_abs = row.max_abs()
    return "-" if max_abs is None else f"{max_abs:.1e}"


def _drop(row: Row) -> str:
    """How much worse the task metric is, behind the state of its check unless that is `pass`."""
    state, drop = row.state("accuracy"), row.accuracy_drop()
    if drop is None:
        return state
    return number(drop) if state == "pass" else f"{state} {number(drop)}"


def _mutants(row: Row) -> str:
    """Injected faults that were noticed, of those that change an output."""
    found = row.measured(MutationMeasurement)
    killed = sum(measured.count("killed") for measured in found)
    survived = sum(measured.count("survived") for measured in found)
    return f"{killed}/{killed + survived}" if any(measured.mutants for measured in found) else "-"


def _speedup(row: Row) -> str:
    """The smallest and largest speed-up over targets and dims."""
    found = sorted(measured.speedup for measured in row.measured(LatencyMeasurement))
    if not found:
        return "-"
    low, high = f"{found[0]:.2f}", f"{found[-1]:.2f}"
    return low if low == high else f"{low}-{high}"


def _over_fp32(row: Row) -> str:
    """The smallest speed-up over the fp32 artefact, over targets and dims."""
    found = (measured.speedup_over_fp32 for measured in row.measured(LatencyMeasurement))
    known = [value for value in found if value is not None]
    return f"{min(known):.2f}" if known else "-"


def made_on(record: Record) -> str:
    """One line with versions, processor and date."""
    packages, environment = record.environment.packages, record.environment
    shown = [name for name in packages if name in ("torch", "onnx") or "onnxruntime" in name]
    versions = ", ".join(f"{name} {packages[name]}" for name in shown)
    line = (
        f"onnxcheck {record.onnxcheck}, {versions}; {environment.cpu}, "
        f"{environment.cpus} CPUs; {record.created[:10]}."
    )
    return f"{inline(line)}\n"
