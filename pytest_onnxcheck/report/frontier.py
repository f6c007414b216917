"""Shows which variants of a model are worth having, and which one to release.

`judge.frontier` says what that means.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pytest_onnxcheck.digits import milliseconds
from pytest_onnxcheck.judge.frontier import Candidate, Frontier
from pytest_onnxcheck.report.escaping import cell
from pytest_onnxcheck.report.table import decibels, file_size, number, shown
from pytest_onnxcheck.wording import several

__all__ = ["HEADER", "cells", "data", "markdown", "proposal", "unproposed"]

HEADER = (
    *("model", "variant", "size", "of fp32", "latency", "at", "x PyTorch", "x fp32"),
    *("SQNR", "top-1", "drop", "coverage", "state", "release", "dominated by"),
)


def cells(frontier: Frontier, candidate: Candidate) -> tuple[str, ...]:
    """The cells of one variant, in the order of the header."""
    return (
        frontier.model,
        candidate.variant,
        _size(candidate) or "-",
        shown(candidate.size_ratio, ".2f"),
        "-" if candidate.latency_ms is None else milliseconds(candidate.latency_ms / 1e3),
        "-" if candidate.latency_ms is None else frontier.point,
        shown(candidate.speedup, ".2f"),
        shown(candidate.speedup_over_fp32, ".2f"),
        "-" if candidate.rel_rms is None else decibels(candidate.rel_rms),
        shown(candidate.top1, ".3f"),
        "-" if candidate.accuracy_drop is None else number(candidate.accuracy_drop),
        shown(candidate.coverage, ".2f"),
        candidate.state,
        "yes" if candidate.release else "-",
        candidate.dominated_by or "-",
    )


def markdown(found: Iterable[Frontier]) -> str:
    """The frontiers as one Markdown table."""
    lines = [HEADER, ("---",) * len(HEADER)]
    lines += [cells(frontier, candidate) for frontier in found for candidate in frontier.candidates]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines) + "\n"


def data(found: Iterable[Frontier]) -> list[dict[str, Any]]:
    """One dict per variant, for plots: what a `Candidate` has and is, and where it belongs."""
    return [
        {
            "manifest": frontier.manifest,
            "model": frontier.model,
            "target": frontier.target,
            "dims": frontier.dims,
            **dataclasses.asdict(candidate),
            "passes": candidate.passes,
            "sqnr_db": candidate.sqnr_db,
        }
        for frontier in found
        for candidate in frontier.candidates
    ]


def proposal(frontier: Frontier) -> str | None:
    """What to release, in one line; None where there is nothing to choose from.

    That is: a single variant, or a run of only some of the checks.
    """
    if len(frontier.candidates) < 2 or not frontier.whole:
        return None
    found, untimed = frontier.released, _untimed(frontier)
    if found is None:
        return f"{frontier.model}: {untimed or _obstacle(frontier)}"
    facts = [_join(", ", _size(found), _of_fp32(found)), *_speed(found)]
    if found.rel_rms is not None:
        facts.append(decibels(found.rel_rms))
    if found.accuracy_drop is not None:
        facts.append(f"accuracy drop {number(found.accuracy_drop)}")
    if found.state == "warn":
        facts.append("with warnings")
    return _join("; ", f"{frontier.model}: {found.variant} ({'; '.join(facts)})", untimed)


def unproposed(frontier: Frontier, variants: Sequence[str]) -> str:
    """Why nothing of a model is proposed, and what to do; empty where the run was a whole one.

    Args:
        frontier: The model's.
        variants: The names of its variants in the manifest.
    """
    if frontier.whole:
        return ""
    made = {found.variant for found in frontier.candidates}
    missing = [name for name in variants if name not in made]
    partial = [found.variant for found in frontier.candidates if not found.complete]
    what = several(missing, 4) or f"checks of {several(partial, 4) or 'other variants'}"
    return f"Nothing is proposed: this run left out {what}."


def _untimed(frontier: Frontier) -> str:
    names = frontier.untimed
    if not names:
        return ""
    whose = "its" if len(names) == 1 else "their"
    return f"{', '.join(names)} not proposed: {whose} speed budget was not measured"


def _obstacle(frontier: Frontier) -> str:
    if any(found.failed for found in frontier.candidates):
        return "none passes its checks"
    skipped = sorted({check for found in frontier.candidates for check in found.unjudged})
    were = "was" if len(skipped) == 1 else "were"
    return f"none could be judged: {' and '.join(skipped)} {were} skipped"


def _speed(candidate: Candidate) -> Iterator[str]:
    if candidate.latency_ms is None:
        yield "the smallest, no latency was measured"
        return
    facts = [milliseconds(candidate.latency_ms / 1e3), f"{candidate.speedup:.1f}x PyTorch"]
    if candidate.speedup_over_fp32 is not None:
        facts.append(f"{candidate.speedup_over_fp32:.2f}x fp32")
    yield ", ".join(facts)


def _size(candidate: Candidate) -> str:
    return "" if candidate.size_bytes is None else file_size(candidate.size_bytes)


def _of_fp32(candidate: Candidate) -> str:
    ratio = candidate.size_ratio
    return "" if ratio is None or ratio == 1 else f"{ratio:.2f} of fp32"


def _join(separator: str, *parts: str) -> str:
    return separator.join(part for part in parts if part)
