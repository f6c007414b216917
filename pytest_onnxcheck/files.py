"""Files: hashed, missed by name, and written so that nothing half-written is ever used."""

from __future__ import annotations

import difflib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = [
    "contents_sha256",
    "file_sha256",
    "files_sha256",
    "flush",
    "hashed",
    "not_found",
    "write_atomically",
]

_CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """Hex SHA-256 of a file's content."""
    return files_sha256([path])


def files_sha256(paths: Iterable[Path]) -> str:
    """Hex SHA-256 of the contents of several files, one after the other."""
    return hashed(paths)[0]


def contents_sha256(paths: Iterable[Path]) -> str:
    """Hex SHA-256 of the contents of several files, wherever they lie and whatever their order."""
    each = sorted(file_sha256(path) for path in paths)
    return hashlib.sha256("".join(each).encode()).hexdigest()


def hashed(paths: Iterable[Path]) -> tuple[str, list[str]]:
    """Hex SHA-256 of the contents of several files, one after the other, and that of each."""
    whole = hashlib.sha256()
    each: list[str] = []
    for path in paths:
        # the first file is the beginning of the whole: most artefacts are one file, read once
        digests = [whole, hashlib.sha256()] if each else [whole]
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                for digest in digests:
                    digest.update(chunk)
        each.append(digests[-1].hexdigest())
    return whole.hexdigest(), each


def not_found(path: Path) -> str:
    """That there is no such file, and which one beside it may have been meant."""
    siblings = [entry.name for entry in path.parent.glob("*")] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=1)
    return f"not found: {path}" + (f" (did you mean {close[0]!r}?)" if close else "")


def write_atomically(path: Path, text: str | Iterable[str]) -> None:
    """Writes a text file, whole or in pieces, under a temporary name; then renames it.

    Makes its folder. Where a piece fails, the file that is there is left as it is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines([text] if isinstance(text, str) else text)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def flush(path: Path) -> None:
    """Waits until a file is on the disk, or the list of what is in a folder."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
