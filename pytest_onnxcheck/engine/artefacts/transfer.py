"""How large an artefact is on its way to a page."""

from __future__ import annotations

import zlib
from pathlib import Path

from pytest_onnxcheck.engine.artefacts.external import data_files

__all__ = ["transferred_bytes"]

#: what web servers use where nobody says otherwise
_LEVEL = 6
#: makes of zlib's stream one of gzip
_GZIP = 16 + zlib.MAX_WBITS
_CHUNK = 1 << 20


def transferred_bytes(path: Path) -> int:
    """Bytes of an artefact and its external data, each compressed by gzip."""
    return sum(map(_compressed, [path, *data_files(path)]))


def _compressed(path: Path) -> int:
    packer, count = zlib.compressobj(_LEVEL, wbits=_GZIP), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            count += len(packer.compress(chunk))
    return count + len(packer.flush())
