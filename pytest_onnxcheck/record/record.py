"""The record of one run: everything measured, and on what."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_onnxcheck import __version__
from pytest_onnxcheck.errors import RecordError
from pytest_onnxcheck.files import file_sha256, write_atomically
from pytest_onnxcheck.machine import cpu_name
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.record.encoding import pieces, read
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.record.journal import assembled
from pytest_onnxcheck.record.origin import Job, Source, command_line, job, source
from pytest_onnxcheck.record.rows import FrontierRow
from pytest_onnxcheck.record.shard import Shard
from pytest_onnxcheck.versions import installed_versions

__all__ = [
    "FORMAT",
    "Environment",
    "ManifestFile",
    "NotCollected",
    "Part",
    "Record",
    "from_json",
    "load",
    "loads",
    "make",
    "manifest_file",
    "write",
]

#: version of the record's format
FORMAT = 1

_PACKAGES = (
    *("pytest", "pytest-benchmark", "pydantic", "torch", "numpy", "safetensors"),
    *("onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino"),
)


@dataclass(frozen=True)
class Environment:
    """What a run ran on. A project's hook may have taken something out of it.

    Attributes:
        python: Version of Python.
        platform: The operating system, with its version.
        machine: The architecture, e.g. `x86_64`.
        cpu: The processor's name; empty where the system has none.
        cpus: Number of logical processors; None where it is unknown.
        packages: Version of each package that matters and is installed.
        command: The command line, without credentials and other secrets in it.
    """

    python: str = ""
    platform: str = ""
    machine: str = ""
    cpu: str = ""
    cpus: int | None = None
    packages: dict[str, str] = field(default_factory=dict)
    command: tuple[str, ...] = ()


@dataclass(frozen=True)
class ManifestFile:
    """A manifest of a run.

    Attributes:
        path: Where it is.
        sha256: Hash of the file.
        seed: Its seed.
        models: The names of its models, whatever of them was checked; empty in records that do not
            say.
    """

    path: str
    sha256: str
    seed: int
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotCollected:
    """A manifest or model that could not be collected.

    Attributes:
        nodeid: pytest's name of it.
        error: What is wrong with it.
    """

    nodeid: str
    error: str


@dataclass(frozen=True)
class Part:
    """A record that others were merged with.

    Attributes:
        created: When it was written.
        environment: What its run was on.
        job: The CI job of its run.
        shard: The part of the models that it has; None of one without shards.
        checks: How many checks it has.
    """

    created: str
    environment: Environment
    job: Job
    shard: Shard | None
    checks: int


@dataclass(frozen=True)
class Record:
    """What one run left.

    Attributes:
        onnxcheck: Version of this package that wrote it.
        created: When, in UTC, as ISO 8601.
        environment: What it ran on.
        exitstatus: pytest's exit status.
        checks: What the checks found, in the order they ran.
        manifests: The manifests of the checks.
        errors: What could not be collected.
        frontier: What each variant costs and loses, one row a variant, for plots. It follows from
            the checks: who shows it computes it anew.
        history: What was said of the history of latencies, one line each.
        source: The commit it ran on.
        job: The CI job it ran in.
        finished: Whether the run came to its end. Of one that was killed or interrupted, or still
            goes on, the record has what was finished until then, and is no JSON but lines of it.
        selected: How many checks were to be made; None in records that do not say.
        shard: The part of the models that it took (`--onnxcheck-shard`); None of a whole run.
        parts: The records that it was merged from; empty of a run's own.
    """

    onnxcheck: str
    created: str
    environment: Environment
    exitstatus: int
    checks: tuple[Entry, ...]
    manifests: tuple[ManifestFile, ...] = ()
    errors: tuple[NotCollected, ...] = ()
    frontier: tuple[FrontierRow, ...] = ()
    history: tuple[str, ...] = ()
    source: Source = field(default_factory=Source)
    job: Job = field(default_factory=Job)
    finished: bool = True
    selected: int | None = None
    shard: Shard | None = None
    parts: tuple[Part, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as a dict; NaN and infinity in it are still numbers."""
        return {
            "format": FORMAT,
            "onnxcheck": self.onnxcheck,
            "created": self.created,
            "environment": asdict(self.environment),
            "source": asdict(self.source),
            "job": asdict(self.job),
            "manifests": [asdict(manifest) for manifest in self.manifests],
            "exitstatus": self.exitstatus,
            "finished": self.finished,
            "selected": self.selected,
            "shard": None if self.shard is None else asdict(self.shard),
            "parts": [asdict(part) for part in self.parts],
            "errors": [asdict(error) for error in self.errors],
            "frontier": [asdict(row) for row in self.frontier],
            "checks": [entry.to_json() for entry in self.checks],
            "history": list(self.history),
        }


def make(
    checks: Sequence[Entry],
    *,
    errors: Iterable[NotCollected] = (),
    exitstatus: int = 0,
    frontier: Iterable[FrontierRow] = (),
    history: Iterable[str] = (),
    root: Path | None = None,
    finished: bool = True,
    selected: int | None = None,
    shard: Shard | None = None,
) -> Record:
    """The record of the run that is ending, on this machine and at this time.

    Args:
        checks: What the checks found.
        errors: What could not be collected.
        exitstatus: pytest's exit status.
        frontier: What each variant costs and loses.
        history: What was said of the history of latencies.
        root: A folder in the work tree whose commit is told; default: none is.
        finished: Whether the run came to its end.
        selected: How many checks were to be made.
        shard: The part of the models that the run took.
    """
    paths = dict.fromkeys(entry.manifest for entry in checks)
    return Record(
        onnxcheck=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        environment=_environment(),
        exitstatus=exitstatus,
        checks=tuple(checks),
        manifests=tuple(manifest_file(Path(path)) for path in paths),
        errors=tuple(errors),
        frontier=tuple(frontier),
        history=tuple(history),
        source=Source() if root is None else source(root),
        job=job(),
        finished=finished,
        selected=selected,
        shard=shard,
    )


def write(record: Mapping[str, Any], path: Path) -> None:
    """Writes a record, as `to_json` gives it and projects may change it; makes its folder.

    Its checks may also be an iterator.

    Raises:
        TypeError: It holds what JSON cannot hold. The file that is there is left as it is.
    """
    write_atomically(path, pieces(record))


def load(path: Path) -> Record:
    """Reads a record back, also an unfinished one; keys that a project added are left out.

    Raises:
        OSError: There is no such file.
        RecordError: It is no record, of another format, or damaged.
    """
    return loads(path.read_bytes(), str(path))


def loads(content: bytes, name: str) -> Record:
    """The record in a file's content; see `from_json`."""
    try:
        text = content.decode()
    except ValueError:
        return from_json(None, name)
    try:
        written = json.loads(text)
    except ValueError:
        written = assembled(text, name)
    return from_json(written, name)


def from_json(content: object, name: str) -> Record:
    """The record that was written.

    Args:
        content: What JSON gave.
        name: What errors call it.

    Raises:
        RecordError: It is no record, of another format, or damaged.
    """
    if not isinstance(content, dict) or not {"format", "checks"} <= content.keys():
        raise RecordError(f"{name}: not a record: write one with --onnxcheck-json=PATH")
    if content["format"] != FORMAT:
        writer = f"onnxcheck {content.get('onnxcheck', 'of an unknown version')}"
        raise RecordError(
            f"{name}: written by {writer} in format {content['format']!r}, and this version "
            f"({__version__}) reads format {FORMAT}: read it with the version that wrote it, or "
            "run the checks again with --onnxcheck-json=PATH"
        )
    try:
        checks = [_entry(number, check) for number, check in enumerate(content["checks"])]
        return read(Record, {**content, "checks": checks})
    except (TypeError, ValueError) as error:
        raise RecordError(f"{name}: a damaged record: {error}") from error


def _entry(number: int, written: Mapping[str, Any]) -> Entry:
    try:
        return Entry.from_json(written)
    except ValueError as error:
        raise ValueError(f"checks.{number}: {error}") from error


def _environment() -> Environment:
    return Environment(
        python=platform.python_version(),
        platform=platform.platform(),
        machine=platform.machine(),
        cpu=cpu_name(),
        cpus=os.cpu_count(),
        packages=installed_versions(_PACKAGES),
        command=command_line(sys.argv),
    )


def manifest_file(path: Path) -> ManifestFile:
    """A manifest as a record has it."""
    found = load_manifest(path)
    models = tuple(dict.fromkeys([*found.lines, *found.models]))
    return ManifestFile(str(path), file_sha256(path), found.seed, models)
