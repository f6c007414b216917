"""One row per model and variant, from the entries of a record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from pytest_onnxcheck.digits import three_digits

__all__ = [
    *("HEADER", "Entry", "Row", "cells", "decibels", "file_size", "markdown"),
    *("number", "rows", "sqnr_db", "warnings"),
]

Entry = dict[str, Any]

HEADER = (
    *("model", "variant", "export", "quant", "struct", "equal", "loss", "drop"),
    *("size", "ratio", "coverage", "mutants", "speed-up", "x fp32", "latency", "verdict"),
)

_ORDER = ("failed", "xpassed", "xfailed", "warn", "passed", "skipped")
_SHOWN = {"failed": "FAIL", "xpassed": "XPASS", "passed": "pass", "skipped": "skip"}
_SHOWN |= {"warn": "warn", "xfailed": "xfail"}


@dataclass
class Row:
    """One model and variant with the entries of its checks."""

    model: str
    variant: str
    entries: list[Entry] = field(default_factory=list)

    def of(self, check: str) -> list[Entry]:
        """The entries of one check."""
        return [entry for entry in self.entries if entry["check"] == check]

    def measured(self, check: str) -> list[Any]:
        """What one check measured, on every target; those that measured nothing are left out."""
        return [entry["measurement"] for entry in self.of(check) if "measurement" in entry]

    def state(self, check: str | None = None) -> str:
        """The worst outcome of one check, or of all; a dash when there is none."""
        entries = self.entries if check is None else self.of(check)
        states = {_state(entry) for entry in entries}
        return next((_SHOWN[state] for state in _ORDER if state in states), "-")

    def verdict(self) -> str:
        """The worst outcome; `partial` where all is well but a whole kind of check was skipped.

        That is, of those that every target has: `test_target` is about accelerators alone.
        """
        state = self.state()
        kinds = {entry["check"] for entry in self.entries} - {"target"}
        skipped = any(self.state(kind) == "skip" for kind in kinds)
        return "partial" if state in ("pass", "warn") and skipped else state

    @property
    def is_fp32(self) -> bool:
        """Whether its file is the exported one; other precisions have a file of their own."""
        return self.variant.endswith("-fp32")

    def size_bytes(self) -> int | None:
        """Bytes on disk; None when its own file was not measured."""
        found = self.measured("export" if self.is_fp32 else "quantization")
        return found[0]["file"]["size_bytes"] if found else None

    def size_ratio(self) -> float | None:
        """Bytes on disk as a share of the fp32 artefact's."""
        return next(
            (
                float(measured["file"]["size_bytes"] / measured["float_bytes"])
                for measured in self.measured("quantization")
                if measured["float_bytes"]
            ),
            None,
        )

    def coverage(self) -> float | None:
        """Share of the multiply-accumulates that carry the precision."""
        found = (measured.get("coverage") for measured in self.measured("quantization"))
        return next((coverage["compute"] for coverage in found if coverage), None)

    def rel_rms(self) -> float | None:
        """Worst ||a - e|| / ||e|| over the declared cases' floating outputs, on all targets."""
        return max(self._declared("rel_rms"), default=None)

    def top1(self) -> float | None:
        """Smallest share of rows whose largest element is the same, over the same outputs."""
        return min(self._declared("top1"), default=None)

    def accuracy_drop(self) -> float | None:
        """How much worse than PyTorch's the task metric is, on the target where it is worst."""
        return max((float(found["drop"]) for found in self.measured("accuracy")), default=None)

    def _declared(self, metric: str) -> Iterator[float]:
        """A metric of every floating output of the cases that the manifest asks for."""
        for measured in self.measured("equivalence"):
            for case in measured["cases"]:
                for output in case["outputs"]:
                    value = output.get(metric)
                    if value is None or case["probe"] or case["lenient"]:
                        continue
                    if "float" in output["expected_dtype"]:
                        yield float(value)  # infinity is a string in a record


def rows(entries: Iterable[Entry]) -> list[Row]:
    """Groups entries by model and variant, in the order of the manifest."""
    found: dict[tuple[str, str, str], Row] = {}
    for entry in entries:
        key = entry["manifest"], entry["model"], entry["variant"]
        found.setdefault(key, Row(*key[1:])).entries.append(entry)
    # pytest-xdist hands variants out in an order of its own
    return sorted(found.values(), key=lambda row: tuple(row.entries[0]["position"]))


def cells(row: Row) -> tuple[str, ...]:
    """The cells of one row, in the order of the header."""
    size, ratio, coverage = row.size_bytes(), row.size_ratio(), row.coverage()
    return (
        row.model,
        row.variant,
        row.state("export"),
        row.state("quantization"),
        row.state("structure"),
        row.state("equivalence"),
        _loss(row),
        _drop(row),
        "-" if size is None else file_size(size),
        "-" if ratio is None else f"{ratio:.2f}",
        "-" if coverage is None else f"{coverage:.2f}",
        _mutants(row),
        _speedup(row),
        _over_fp32(row),
        row.state("latency"),
        row.verdict(),
    )


def markdown(entries: Iterable[Entry]) -> str:
    """The table as Markdown, for the README."""
    lines = [HEADER, ("---",) * len(HEADER), *(cells(row) for row in rows(entries))]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def _state(entry: Entry) -> str:
    if entry["outcome"] == "passed" and entry.get("grade") == "warn":
        return "warn"
    return str(entry["outcome"])


def sqnr_db(rel_rms: float) -> float:
    """Signal-to-quantization-noise ratio in dB, -20 log10(||a - e|| / ||e||)."""
    return math.inf if rel_rms == 0 else -20 * math.log10(rel_rms)


def decibels(rel_rms: float) -> str:
    """The ratio as people read it; `exact` where not a bit differs."""
    return "exact" if rel_rms == 0 else f"{sqnr_db(rel_rms):.1f} dB"


def number(value: float) -> str:
    """Two digits, which is more than the drop of a task metric means."""
    return f"{value:.2g}"


def file_size(size_bytes: int) -> str:
    """Bytes as people read them, in three digits: kB below 0.1 MB."""
    unit, size = ("MB", 1e6) if size_bytes >= 1e5 else ("kB", 1e3)
    return f"{three_digits(size_bytes / size)} {unit}"


def _loss(row: Row) -> str:
    """The largest absolute error of fp32; of other precisions the worst SQNR, in dB."""
    rel_rms = row.rel_rms()
    if not row.is_fp32 and rel_rms is not None:
        return decibels(rel_rms)
    errors = [
        float(output["max_abs"])  # infinity is a string in a record
        for measured in row.measured("equivalence")
        for case in measured["cases"]
        for output in case["outputs"]
        if output["max_abs"] is not None
    ]
    return f"{max(errors):.1e}" if errors else "-"


def _drop(row: Row) -> str:
    """How much worse the task metric is, behind the state of its check unless that is `pass`."""
    state, drop = row.state("accuracy"), row.accuracy_drop()
    if drop is None:
        return state
    return number(drop) if state == "pass" else f"{state} {number(drop)}"


def _mutants(row: Row) -> str:
    """Injected faults that were noticed, of those that change an output."""
    results = [
        mutant["result"] for measured in row.measured("mutation") for mutant in measured["mutants"]
    ]
    killed, survived = results.count("killed"), results.count("survived")
    return f"{killed}/{killed + survived}" if results else "-"


def _speedup(row: Row) -> str:
    """The smallest and largest speed-up over targets and dims."""
    found = sorted(float(measured["speedup"]) for measured in row.measured("latency"))
    if not found:
        return "-"
    low, high = f"{found[0]:.2f}", f"{found[-1]:.2f}"
    return low if low == high else f"{low}-{high}"


def _over_fp32(row: Row) -> str:
    """The smallest speed-up over the fp32 artefact, over targets and dims."""
    found = (measured.get("speedup_over_fp32") for measured in row.measured("latency"))
    known = [float(value) for value in found if value is not None]
    return f"{min(known):.2f}" if known else "-"


def warnings(entries: Iterable[Entry]) -> Iterator[str]:
    """One line per distinct warning, which pytest itself does not show."""
    where: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if _state(entry) == "warn":
            where.setdefault((entry["model"], entry["reason"]), []).append(entry["nodeid"])
    for (_, reason), nodeids in where.items():
        more = f" (and {len(nodeids) - 1} more checks)" if len(nodeids) > 1 else ""
        yield f"warn  {nodeids[0]}{more}: {reason}"
