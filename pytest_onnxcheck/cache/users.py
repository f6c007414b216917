"""Which entries living processes use: these are never removed."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from filelock import FileLock, Timeout

__all__ = ["Users"]

#: the folder with two files a process: a lock, which the system opens when the process ends however
#: it ends, and the names of the entries that it uses
_FOLDER = ".runs"


class Users:
    """The processes that use a cache's folder, this one among them.

    An entry's lock is held while its name is added and while it is removed, so that it is not
    removed between.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / _FOLDER
        self._lock: FileLock | None = None
        self._names: dict[str, None] = {}

    def add(self, name: str) -> None:
        """Notes that this process uses an entry until it ends."""
        if name in self._names:
            return
        if self._lock is None:
            self._lock = self._locked()
        with _list_of(Path(self._lock.lock_file)).open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        self._names[name] = None

    def used(self) -> set[str]:
        """The entries that living processes use; what is left of ended ones is deleted."""
        found = set(self._names)
        for path in self._folder.glob("*.lock"):
            own = self._lock is not None and path == Path(self._lock.lock_file)
            if own or path.is_symlink():
                continue
            try:
                with FileLock(path, timeout=0):
                    _list_of(path).unlink(missing_ok=True)
                    path.unlink(missing_ok=True)
            except (Timeout, OSError):  # it lives, or is another's and cannot be asked
                found.update(_names(_list_of(path)))
        return found

    def _locked(self) -> FileLock:
        if self._folder.is_symlink():
            raise OSError(f"{self._folder} is a link")
        self._folder.mkdir(parents=True, exist_ok=True)
        while True:
            path = self._folder / f"{os.getpid()}-{secrets.token_hex(8)}.lock"
            lock = FileLock(path, thread_local=False)
            lock.acquire()
            if path.exists():  # not taken for that of an ended process before it was locked
                return lock


def _list_of(lock: Path) -> Path:
    return lock.with_suffix(".txt")


def _names(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except OSError:  # its process has just begun
        return []
