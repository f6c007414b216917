"""Puts an artefact where it is wanted: whole or not at all, its data under its own name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.external import locations
from pytest_onnxcheck.engine.graph.walk import tensors

__all__ = ["place"]


def place(artefact: Artefact, path: Path) -> Artefact:
    """Copies an artefact and its external data; makes the folder.

    Files are written beside their place and renamed, the `.onnx` last. Their mode is what the
    umask says.

    Args:
        artefact: The artefact.
        path: The new `.onnx`. One data file becomes `PATH.data`, several `PATH.N.data`.

    Returns:
        The artefact at its new place.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    names = locations(artefact.path)
    renamed = {
        name: f"{path.name}.data" if len(names) == 1 else f"{path.name}.{number}.data"
        for number, name in enumerate(names)
    }
    written: list[tuple[Path, Path]] = []
    try:
        for name, new in renamed.items():
            written.append((_beside(path.parent / new), path.parent / new))
            shutil.copyfile(artefact.path.parent / name, written[-1][0])
        written.append((_beside(path), path))
        if renamed:
            _relocated(artefact.path, renamed, written[-1][0])
        else:
            shutil.copyfile(artefact.path, written[-1][0])
        for temporary, final in written:
            temporary.replace(final)
    finally:
        for temporary, _ in written:
            temporary.unlink(missing_ok=True)
    return Artefact.of(path, seconds=artefact.seconds, source=artefact.source, notes=artefact.notes)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _relocated(source: Path, renamed: dict[str, str], target: Path) -> None:
    """Writes an `.onnx` whose data files have other names."""
    import onnx

    model = onnx.load(source, load_external_data=False)
    for tensor in tensors(model.graph):
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = renamed[entry.value]
    target.write_bytes(model.SerializeToString())
