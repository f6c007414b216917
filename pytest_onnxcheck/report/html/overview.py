"""What stands above the models, and what the run was made on."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_onnxcheck.record.record import Record
from pytest_onnxcheck.report.html.models import Section
from pytest_onnxcheck.report.markdown import headline

__all__ = ["About", "Overview", "Tile", "about", "overview"]

#: state -> how a tile calls it
_STATES = {
    "failed": "failed",
    "xpassed": "passed unexpectedly",
    "warn": "warned",
    "xfailed": "failed as expected",
    "skipped": "skipped",
    "passed": "passed",
}


@dataclass(frozen=True)
class Tile:
    """How many checks ended so; `start` and `width` are its part of the bar, of 1000."""

    state: str
    label: str
    count: int
    start: float
    width: float


@dataclass(frozen=True)
class Overview:
    """The verdict, the counts, and who is concerned."""

    good: bool
    headline: str
    tiles: tuple[Tile, ...]
    checks: int
    models: int
    variants: int
    states: tuple[tuple[str, int], ...]
    failing: tuple[Section, ...]
    proposals: tuple[str, ...]


@dataclass(frozen=True)
class About:
    """Names and values of what a run was made on, and the manifests."""

    facts: tuple[tuple[str, str], ...]
    packages: tuple[tuple[str, str], ...]
    link: str
    command: str


def overview(record: Record, sections: Sequence[Section]) -> Overview:
    """What the top of the page tells."""
    found = Counter(entry.state for entry in record.checks)
    total = len(record.checks)
    tiles, start = [], 0.0
    for state, label in _STATES.items():
        if found[state]:
            width = 1000 * found[state] / total
            tiles.append(Tile(state, label, found[state], round(start, 1), round(width, 1)))
            start += width
    text = headline(record)
    return Overview(
        good=text.startswith("✅"),
        headline=text.partition("onnxcheck: ")[2],
        tiles=tuple(tiles),
        checks=total,
        models=len(sections),
        variants=sum(len(section.variants) for section in sections),
        states=tuple(Counter(section.state for section in sections).items()),
        failing=tuple(section for section in sections if section.failures),
        proposals=tuple(section.proposal for section in sections if section.proposal),
    )


def about(record: Record) -> About:
    """What the run was made on."""
    environment, source, job = record.environment, record.source, record.job
    changed = {True: ", with changes", False: "", None: ""}[source.dirty]
    facts = {
        "onnxcheck": record.onnxcheck,
        "Created": record.created,
        "Commit": f"{source.commit}{changed}" if source.commit else "",
        "Branch": source.branch,
        "CI job": " ".join(filter(None, (job.service, job.name, job.run))),
        "Exit status": str(record.exitstatus),
        "Python": environment.python,
        "Platform": environment.platform,
        "Machine": environment.machine,
        "Processor": environment.cpu,
        "CPUs": "" if environment.cpus is None else str(environment.cpus),
    }
    return About(
        facts=tuple((name, value) for name, value in facts.items() if value),
        packages=tuple(environment.packages.items()),
        # the record is a file: only a link of the web is one
        link=job.url if job.url.startswith(("https://", "http://")) else "",
        command=shlex.join(environment.command),
    )
