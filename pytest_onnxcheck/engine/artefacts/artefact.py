"""An artefact: an `.onnx` file with its external data, and what its builder noted."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_onnxcheck.engine.graph.walk import tensors
from pytest_onnxcheck.files import files_sha256
from pytest_onnxcheck.measurement import CalibrationMeasurement

__all__ = ["Artefact", "Notes", "artefact_files"]


@dataclass(frozen=True)
class Notes:
    """What the builder of an artefact noted for the checks; empty for a file that was given.

    Attributes:
        options: The options it was made with, by name, as JSON has them.
        narrowed: Inputs and outputs that have 16 bits in it and are declared as float32.
        calibration: The data that static quantization took its ranges from.
        traced: What the tracer turned into constants, one text each.
    """

    options: dict[str, object] = field(default_factory=dict)
    narrowed: tuple[str, ...] = ()
    calibration: CalibrationMeasurement | None = None
    traced: tuple[str, ...] = ()

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
        )


@dataclass(frozen=True)
class Artefact:
    """An `.onnx` file with its external data.

    Attributes:
        path: The `.onnx` file.
        sha256: Hash of the file and its external data.
        size_bytes: Bytes on disk of the same.
        seconds: What building it took, when it was built; 0 for a file that was given.
        cached: Whether it was built by an earlier run.
        notes: What the builder noted.
    """

    path: Path
    sha256: str
    size_bytes: int
    seconds: float
    cached: bool
    notes: Notes

    @classmethod
    def given(cls, path: Path) -> Artefact:
        """An artefact that already exists."""
        return cls.of(path, seconds=0.0, cached=False, notes=Notes())

    @classmethod
    def of(cls, path: Path, *, seconds: float, cached: bool, notes: Notes) -> Artefact:
        """An artefact of a file on disk: hash and size are taken from it and its data."""
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
