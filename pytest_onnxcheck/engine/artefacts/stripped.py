"""An artefact without what only says where it comes from, as a file with its data beside it."""

from __future__ import annotations

import shutil
from pathlib import Path

from pytest_onnxcheck.engine.artefacts.external import locations
from pytest_onnxcheck.engine.graph.strip import strip

__all__ = ["write_stripped"]


def write_stripped(source: Path, path: Path) -> None:
    """Writes an artefact stripped; its external data is copied as it is, under the same names.

    Args:
        source: The artefact.
        path: The file to write, in a folder of its own.
    """
    import onnx

    model = onnx.load(source, load_external_data=False)
    strip(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    for name in locations(source):
        (path.parent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source.parent / name, path.parent / name)
