"""How large an artefact is on its way to a page."""

from __future__ import annotations

import gzip
from pathlib import Path

from pytest_onnxcheck.engine.artefacts.external import data_files

__all__ = ["transferred_bytes"]

#: what web servers use where nobody says otherwise
_LEVEL = 6


def transferred_bytes(path: Path) -> int:
    """Bytes of an artefact and its external data, each compressed by gzip."""
    files = [path, *data_files(path)]
    return sum(len(gzip.compress(file.read_bytes(), _LEVEL)) for file in files)
