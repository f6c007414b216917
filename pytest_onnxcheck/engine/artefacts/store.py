"""Artefacts on disk: built once, under a key that hashes everything they are made of."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_onnxcheck.engine.graph.walk import tensors
from pytest_onnxcheck.files import files_sha256, write_atomically

__all__ = ["Artefact", "ArtefactStore", "artefact_files"]

_BUILD = "build.json"


@dataclass(frozen=True)
class Artefact:
    """An `.onnx` file with its external data.

    Attributes:
        path: The `.onnx` file.
        sha256: Hash of the file and its external data.
        size_bytes: Bytes on disk of the same.
        seconds: What building it took, when it was built; 0 for a file that was given.
        cached: Whether it was built by an earlier run.
        notes: What the builder recorded for the report, as JSON has it: its options, and the
            calibration data.
    """

    path: Path
    sha256: str
    size_bytes: int
    seconds: float
    cached: bool
    notes: dict[str, Any]

    @classmethod
    def given(cls, path: Path) -> Artefact:
        """An artefact that already exists."""
        return cls._of(path, seconds=0.0, cached=False, notes={})

    @classmethod
    def _of(cls, path: Path, *, seconds: float, cached: bool, notes: dict[str, Any]) -> Artefact:
        files = artefact_files(path)
        size = sum(file.stat().st_size for file in files)
        return cls(path, files_sha256(files), size, seconds, cached, notes)


def artefact_files(path: Path) -> list[Path]:
    """The `.onnx` file and the external data files it names that exist."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    names = {
        entry.value
        for tensor in tensors(model.graph)
        if tensor.data_location == onnx.TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    data = [path.parent / name for name in sorted(names)]
    return [path, *(file for file in data if file.is_file())]


class ArtefactStore:
    """A folder of artefacts; several processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, folder: str, key: str, build: Callable[[Path], dict[str, Any]]) -> Artefact:
        """The artefact under a key, built if it is not there yet.

        Args:
            folder: Where it belongs, for people: `MODEL/VARIANT`.
            key: Hash of all it is made of.
            build: Writes the file at the path it is given and returns notes for the report, which
                go through JSON. What it leaves behind when it fails is deleted.
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
            artefact = Artefact._of(
                home / "model.onnx", seconds=record["seconds"], cached=True, notes=record["notes"]
            )
        except Exception:  # cut, deleted or written by another version: it is built again
            return None
        return artefact if artefact.sha256 == record["sha256"] else None

    def _build(self, home: Path, build: Callable[[Path], dict[str, Any]]) -> Artefact:
        shutil.rmtree(home, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=home.parent, prefix=".building-") as temporary:
            work = Path(temporary) / "work"
            work.mkdir()
            started = time.perf_counter()
            # as a later run reads them
            notes = json.loads(json.dumps(build(work / "model.onnx")))
            seconds = round(time.perf_counter() - started, 3)
            built = Artefact._of(work / "model.onnx", seconds=seconds, cached=False, notes=notes)
            record = {"seconds": seconds, "sha256": built.sha256, "notes": notes}
            write_atomically(work / _BUILD, json.dumps(record))
            work.rename(home)
        return dataclasses.replace(built, path=home / "model.onnx")

    def _prepare(self) -> None:
        ignore = self.root / ".gitignore"
        if not ignore.exists():
            write_atomically(ignore, "# made by pytest-onnxcheck; may be deleted at any time\n*\n")
