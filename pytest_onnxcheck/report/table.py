"""One row per model and variant, from the entries of a record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

__all__ = ["HEADER", "Row", "cells", "markdown", "rows", "warnings"]

Entry = dict[str, Any]

HEADER = (
    *("model", "variant", "export", "quant", "struct", "equal", "worst error"),
    *("size", "ratio", "mutants", "speed-up", "latency", "verdict"),
)

_ORDER = ("failed", "xpassed", "warn", "xfailed", "passed", "skipped")
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

    def state(self, check: str | None = None) -> str:
        """The worst outcome of one check, or of all; a dash when there is none."""
        entries = self.entries if check is None else self.of(check)
        states = {_state(entry) for entry in entries}
        return next((_SHOWN[state] for state in _ORDER if state in states), "-")

    def verdict(self) -> str:
        """The worst outcome; `partial` where all is well but a whole kind of check was skipped."""
        state = self.state()
        kinds = {entry["check"] for entry in self.entries}
        skipped = any(self.state(kind) == "skip" for kind in kinds)
        return "partial" if state in ("pass", "warn") and skipped else state


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
    # a variant of its own precision has a file of its own, or none
    file = _file(row, "quantization" if row.of("quantization") else "export")
    ratio = _ratio(row)
    return (
        row.model,
        row.variant,
        row.state("export"),
        row.state("quantization"),
        row.state("structure"),
        row.state("equivalence"),
        _worst_error(row),
        f"{file['size_bytes'] / 1e6:.2f} MB" if file else "-",
        "-" if ratio is None else f"{ratio:.2f}",
        _mutants(row),
        _speedup(row),
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


def _file(row: Row, check: str) -> Any:
    """What the check measured of its file; None when it measured nothing."""
    found = (entry["measurement"]["file"] for entry in row.of(check) if "measurement" in entry)
    return next(found, None)


def _ratio(row: Row) -> float | None:
    for entry in row.of("quantization"):
        measured = entry.get("measurement")
        if measured and measured["float_bytes"]:
            return float(measured["file"]["size_bytes"] / measured["float_bytes"])
    return None


def _worst_error(row: Row) -> str:
    errors = [
        float(output["max_abs"])  # infinity is a string in a record
        for entry in row.of("equivalence")
        for case in entry.get("measurement", {}).get("cases", ())
        for output in case["outputs"]
        if output["max_abs"] is not None
    ]
    return f"{max(errors):.1e}" if errors else "-"


def _mutants(row: Row) -> str:
    """Injected faults that were noticed, of those that change an output."""
    results = [
        mutant["result"]
        for entry in row.of("mutation")
        for mutant in entry.get("measurement", {}).get("mutants", ())
    ]
    killed, survived = results.count("killed"), results.count("survived")
    return f"{killed}/{killed + survived}" if results else "-"


def _speedup(row: Row) -> str:
    """The smallest and largest speed-up over targets and dims."""
    found = sorted(
        float(entry["measurement"]["speedup"])
        for entry in row.of("latency")
        if "measurement" in entry
    )
    if not found:
        return "-"
    low, high = f"{found[0]:.2f}", f"{found[-1]:.2f}"
    return low if low == high else f"{low} to {high}"


def warnings(entries: Iterable[Entry]) -> Iterator[str]:
    """One line per distinct warning, which pytest itself does not show."""
    where: dict[tuple[str, str], list[str]] = {}
    for entry in entries:
        if _state(entry) == "warn":
            where.setdefault((entry["model"], entry["reason"]), []).append(entry["nodeid"])
    for (_, reason), nodeids in where.items():
        more = f" (and {len(nodeids) - 1} more checks)" if len(nodeids) > 1 else ""
        yield f"warn  {nodeids[0]}{more}: {reason}"
