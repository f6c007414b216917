"""What failed or warned, at its line of the manifest: for GitHub's and GitLab's review pages."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.record import NotCollected, Record
from pytest_onnxcheck.report.escaping import inline, visible, workflow_data, workflow_property

__all__ = ["code_quality", "github"]

#: GitHub shows ten of a kind a step: the checks of a model are told together
_MOST_CHECKS = 8

_LEVELS = {"failed": "error", "xpassed": "error", "warn": "warning"}
_SEVERITIES = {"error": "critical", "warning": "minor"}

#: how a wrong manifest tells where: `models.toml:14: ...`
_PLACE = re.compile(r"^(?:E\s+)?(\S.*?\.toml):(\d+): (.*)", re.MULTILINE)


@dataclass(frozen=True)
class _Remark:
    """One thing to say of a line; `what` tells it from others of later runs."""

    level: str
    path: str
    line: int
    what: str
    text: str
    title: str


def github(record: Record, root: Path) -> Iterator[str]:
    """Workflow commands, one a model and level: `::error file=…,line=…,title=…::…`.

    Args:
        record: The run.
        root: The repository's folder, which GitHub's paths are relative to.
    """
    grouped: dict[tuple[str, str, int], list[_Remark]] = {}
    for remark in _remarks(record, root):
        grouped.setdefault((remark.level, remark.path, remark.line), []).append(remark)
    for (level, path, line), found in grouped.items():
        texts = [f"{remark.what}: {remark.text}" for remark in found[:_MOST_CHECKS]]
        if len(found) > _MOST_CHECKS:
            texts.append(f"… and {len(found) - _MOST_CHECKS} more")
        properties = {"file": path, "line": str(line), "title": found[0].title}
        told = ",".join(f"{name}={workflow_property(value)}" for name, value in properties.items())
        yield f"::{level} {told}::{workflow_data(chr(10).join(texts))}"


def code_quality(record: Record, root: Path) -> str:
    """GitLab's code-quality report (a subset of Code Climate's), one issue a check.

    An issue's fingerprint follows from the check, not from what was measured: GitLab tells by it
    what a merge request adds and mends.

    Args:
        record: The run.
        root: The repository's folder.
    """
    issues = [
        {
            "description": f"{remark.what}: {remark.text}",
            "check_name": f"onnxcheck {remark.level}",
            "fingerprint": hashlib.sha256(
                "\0".join((remark.path, remark.what, remark.level)).encode("utf-8", "replace")
            ).hexdigest(),
            "severity": _SEVERITIES[remark.level],
            "location": {"path": remark.path, "lines": {"begin": remark.line}},
        }
        for remark in _remarks(record, root)
    ]
    return json.dumps(issues, indent=1) + "\n"


def _remarks(record: Record, root: Path) -> Iterator[_Remark]:
    for error in record.errors:
        yield from _mistakes(error, root)
    yield from _checks(record.checks, root)


def _checks(entries: Iterable[Entry], root: Path) -> Iterator[_Remark]:
    for entry in entries:
        level = _LEVELS.get(entry.state)
        if level is None:
            continue
        point = f"[{entry.point}]" if entry.point else ""
        what = f"{entry.variant}::test_{entry.check}{point}"
        path, line = _relative(entry.manifest, root), max([*entry.position[:1], 1])
        text = inline(entry.reason) or entry.outcome
        yield _Remark(level, path, line, f"{entry.model}::{what}", text, f"onnxcheck {entry.model}")


def _mistakes(error: NotCollected, root: Path) -> Iterator[_Remark]:
    """The mistakes of a manifest at their lines; of another error the first line, at the file's."""
    found = _PLACE.findall(error.error)
    path = error.nodeid.partition("::")[0]
    lines = [line for line in error.error.splitlines() if line.strip()]
    for _, line, text in found or [("", "1", lines[-1] if lines else "not collected")]:
        what = visible(error.nodeid)
        shown = inline(text)
        yield _Remark("error", _relative(path, root), int(line), what, shown, "onnxcheck manifest")


def _relative(path: str, root: Path) -> str:
    given = Path(path)
    return given.relative_to(root).as_posix() if given.is_relative_to(root) else given.as_posix()
