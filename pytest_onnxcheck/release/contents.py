"""The files of a bundle: what they are called, and the list of their hashes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pytest_onnxcheck.files import file_sha256

__all__ = [
    *("CARD", "METADATA", "RECORD", "SIGNATURE", "SUMS"),
    *("files_in", "sums_of", "write_sums"),
]

METADATA, RECORD, CARD, SUMS = "metadata.json", "record.json", "README.md", "SHA256SUMS"

#: of all other files; only in a bundle that is signed
SIGNATURE = "model.sig"


def files_in(folder: Path) -> list[str]:
    """The files in a folder and in those inside it, by their path from there, sorted."""
    found = (path for path in folder.rglob("*") if path.is_file() or path.is_symlink())
    return sorted(path.relative_to(folder).as_posix() for path in found)


def write_sums(folder: Path) -> None:
    """Writes `SHA256SUMS` of all other files but a signature, as `sha256sum -c` reads it."""
    names = [name for name in files_in(folder) if name not in (SUMS, SIGNATURE)]
    lines = [f"{file_sha256(folder / name)}  {name}\n" for name in names]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def sums_of(text: str) -> Mapping[str, str]:
    """File -> SHA-256, as `SHA256SUMS` has them.

    Raises:
        ValueError: A line is none of such a file.
    """
    sums = {}
    for line in text.splitlines():
        sha256, separator, name = line.partition("  ")
        if not separator or len(sha256) != 64:
            raise ValueError(f"not a line of sha256sum: {line!r}")
        sums[name] = sha256
    return sums
