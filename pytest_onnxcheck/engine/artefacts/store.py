"""Artefacts on disk: built once, under a key that hashes everything they are made of."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from pytest_onnxcheck.engine.artefacts.artefact import Artefact, Notes
from pytest_onnxcheck.files import abandoned, building, write_atomically

__all__ = ["ArtefactStore"]

_BUILD = "build.json"


class ArtefactStore:
    """A folder of artefacts; several processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for parent in {left.parent for left in root.glob("*/*/.building-*")}:
            abandoned(parent)

    def get(self, folder: str, key: str, build: Callable[[Path], Notes]) -> Artefact:
        """The artefact under a key, built if it is not there yet.

        Args:
            folder: Where it belongs, for people: `MODEL/VARIANT`.
            key: Hash of all it is made of.
            build: Writes the file at the path it is given and returns its notes. What it leaves
                behind when it fails is deleted.
        """
        home = self.root / folder / key[:16]
        self._prepare()
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        with FileLock(f"{home}.lock"):
            return self._read(home) or self._build(home, build)

    def _read(self, home: Path) -> Artefact | None:
        """The artefact of a finished build; None when its files are not what was built."""
        try:
            record = json.loads((home / _BUILD).read_text(encoding="utf-8"))
            notes = Notes.from_json(record["notes"])
            seconds = record["seconds"]
            artefact = Artefact.of(home / "model.onnx", seconds=seconds, cached=True, notes=notes)
        except Exception:  # cut, deleted or written by another version: it is built again
            return None
        return artefact if artefact.sha256 == record["sha256"] else None

    def _build(self, home: Path, build: Callable[[Path], Notes]) -> Artefact:
        shutil.rmtree(home, ignore_errors=True)
        with building(home.parent) as temporary:
            work = temporary / "work"
            work.mkdir()
            started = time.perf_counter()
            written = json.dumps(build(work / "model.onnx").to_json())
            notes = Notes.from_json(json.loads(written))  # as a later run reads them
            seconds = round(time.perf_counter() - started, 3)
            built = Artefact.of(work / "model.onnx", seconds=seconds, cached=False, notes=notes)
            record = {"seconds": seconds, "sha256": built.sha256, "notes": notes.to_json()}
            write_atomically(work / _BUILD, json.dumps(record))
            work.rename(home)
        return dataclasses.replace(built, path=home / "model.onnx")

    def _prepare(self) -> None:
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            write_atomically(ignore, "# made by pytest-onnxcheck; may be deleted at any time\n*\n")
