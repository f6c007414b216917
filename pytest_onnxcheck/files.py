"""Files: hashed, missed by name, and written so that nothing half-written is ever used."""

from __future__ import annotations

import difflib
import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    *("abandoned", "building", "contents_sha256", "file_sha256", "files_sha256", "flush"),
    *("flush_all", "hashed", "not_found", "path_sha256", "write_atomically"),
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


def path_sha256(path: Path) -> str | None:
    """Hex SHA-256 of a file's content, or of the names and contents in a folder; None without."""
    if not path.is_dir():
        return file_sha256(path) if path.is_file() else None
    files = sorted(file for file in path.rglob("*") if file.is_file())
    named = [f"{file.relative_to(path).as_posix()} {file_sha256(file)}" for file in files]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.tmp")
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


def flush_all(folder: Path) -> None:
    """Waits until all that is in a folder is on the disk, and the folder itself."""
    for path in (*folder.rglob("*"), folder):
        flush(path)


#: how the folders of what is being built begin
_BUILDING = ".building-"


@contextmanager
def building(parent: Path) -> Iterator[Path]:
    """A new folder for something that is put in its place when it is whole, and gone afterwards.

    Folders that killed processes left behind in the same place are removed. A lock beside each
    tells: the system opens it when its process ends, however it ends.

    Args:
        parent: Where the folder is made; it is there.
    """
    from filelock import FileLock

    abandoned(parent)
    folder = parent / f"{_BUILDING}{os.getpid()}-{secrets.token_hex(4)}"
    lock = FileLock(f"{folder}.lock")
    with lock:  # before there is a folder, which nobody takes for one that was left behind
        folder.mkdir()
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.lock_file).unlink(missing_ok=True)


def abandoned(parent: Path) -> None:
    """Removes what builds of processes that are gone left in a folder."""
    from filelock import FileLock, Timeout

    for left in parent.glob(f"{_BUILDING}*"):
        folder = left.with_suffix("") if left.suffix == ".lock" else left
        if Path(f"{folder}.lock").is_symlink():  # what it leads to would be opened, and cut
            continue
        try:
            with FileLock(f"{folder}.lock", timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
                Path(f"{folder}.lock").unlink(missing_ok=True)
        except (Timeout, OSError):  # it is being built, or is another's
            continue
