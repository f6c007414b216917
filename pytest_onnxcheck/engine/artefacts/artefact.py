"""An artefact: an `.onnx` file with its external data, and what its builder noted."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_onnxcheck.engine.artefacts.external import data_files
from pytest_onnxcheck.files import hashed
from pytest_onnxcheck.measurement import CalibrationMeasurement, HashedFile

__all__ = ["Artefact", "Notes", "artefact_files"]


@dataclass(frozen=True)
class Notes:
    """What the builder of an artefact noted for the checks; empty for a file that was given.

    Attributes:
        options: The options it was made with, by name, as JSON has them.
        narrowed: Inputs and outputs that have 16 bits in it and are declared as float32.
        calibration: The data that static quantization took its ranges from.
        traced: What the tracer turned into constants, one text each.
        lowered_from: The IR version that its exporter wrote, where it was lowered for
            `deploy.onnxruntime`.
    """

    options: dict[str, object] = field(default_factory=dict)
    narrowed: tuple[str, ...] = ()
    calibration: CalibrationMeasurement | None = None
    traced: tuple[str, ...] = ()
    lowered_from: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The notes as JSON has them."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, written: dict[str, Any]) -> Notes:
        """The notes of `to_json`, after a way through JSON.

        Raises:
            KeyError: A note is missing.
            TypeError: The calibration data has other fields.
        """
        calibration = written["calibration"]
        return cls(
            options=written["options"],
            narrowed=tuple(written["narrowed"]),
            calibration=None if calibration is None else CalibrationMeasurement(**calibration),
            traced=tuple(written["traced"]),
            lowered_from=written["lowered_from"],
        )


@dataclass(frozen=True)
class Artefact:
    """An `.onnx` file with its external data.

    Attributes:
        path: The `.onnx` file.
        sha256: Hash of `files`: of their contents, one after the other.
        size_bytes: Bytes on disk of the same.
        seconds: What building it took, when it was built; 0 for a file that was given.
        source: `built` by this run, found in a folder (`local`), fetched from the remote cache
            (`remote`), or a file that was `given`.
        notes: What the builder noted.
        files: The file, then its external data by name, each with a hash of its own.
        precision: What the manifest asks it to be, see `terms.Precision`.
    """

    path: Path
    sha256: str
    size_bytes: int
    seconds: float
    source: str
    notes: Notes
    files: tuple[HashedFile, ...]
    precision: str = "fp32"

    @property
    def cached(self) -> bool:
        """Whether it was built by an earlier run."""
        return self.source in ("local", "remote")

    @classmethod
    def given(cls, path: Path, precision: str = "fp32") -> Artefact:
        """An artefact that already exists."""
        made = cls.of(path, seconds=0.0, source="given", notes=Notes())
        return dataclasses.replace(made, precision=precision)

    @classmethod
    def of(cls, path: Path, *, seconds: float, source: str, notes: Notes) -> Artefact:
        """An artefact of a file on disk: hash and size are taken from it and its data."""
        paths = artefact_files(path)
        sha256, each = hashed(paths)
        files = tuple(
            HashedFile(os.path.relpath(file, path.parent), file.stat().st_size, digest)
            for file, digest in zip(paths, each, strict=True)
        )
        size = sum(file.size_bytes for file in files)
        return cls(path, sha256, size, seconds, source, notes, files)


def artefact_files(path: Path) -> list[Path]:
    """The `.onnx` file and the external data files it names that exist, in its folder."""
    return [path, *data_files(path)]
