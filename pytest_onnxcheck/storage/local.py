"""A folder as a store."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from pytest_onnxcheck.errors import ChangedError, StorageError
from pytest_onnxcheck.files import file_sha256, flush
from pytest_onnxcheck.storage.address import Address, checked_key
from pytest_onnxcheck.storage.probe import probe
from pytest_onnxcheck.storage.store import Content, Stored

__all__ = ["LocalStore"]

#: what a file is called until it is complete; no key may begin so
_INCOMING = ".incoming-"
_CHUNK = 1 << 20

_REMEDY = {
    errno.ENOSPC: "make room there, and try again",
    errno.EDQUOT: "the quota is used up: make room there, and try again",
    errno.EFBIG: "the limit for the size of a file is reached (ulimit -f): raise it, and try again",
    errno.EACCES: "give yourself the right to write there, or choose another folder",
    errno.EROFS: "it is mounted read-only: choose another folder",
    errno.ENOTDIR: "a part of the path is a file: choose another folder",
}


class LocalStore:
    """Objects as files in a folder, which is made when something is stored.

    A file gets its name when it is complete and on the disk: by `rename`, or by `link` where
    nothing may be replaced. What a killed process left unfinished in a folder is removed by the
    next that reads or writes there. No metadata is kept.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._root = Path(address.root)

    def uri(self, key: str = "") -> str:
        """See `Store.uri`."""
        return self._address.uri(key)

    def put(
        self,
        key: str,
        source: Path | bytes,
        metadata: Mapping[str, str] | None = None,
        sha256: str | None = None,
    ) -> None:
        """See `Store.put`."""
        path = self._path(key)
        with self._told(key):
            if sha256 is not None and path.is_file() and file_sha256(path) == sha256:
                return
            with _incoming(path.parent) as temporary:
                found = _fill(temporary, source)
                if sha256 is not None and found != sha256:
                    raise StorageError(
                        f"{self.uri(key)}: the source has changed while it was stored: try again"
                    )
                Path(temporary.name).replace(path)
                flush(path.parent)

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """See `Store.put_if_absent`."""
        path = self._path(key)
        with self._told(key):
            with _incoming(path.parent) as temporary:
                _fill(temporary, content)
                try:
                    path.hardlink_to(temporary.name)
                except FileExistsError:
                    return path.read_bytes() == content
                flush(path.parent)
            return True

    def replace(self, key: str, content: bytes, etag: str) -> bool:
        """See `Store.replace`."""
        with self._told(key), _locked(self._path(key).parent):
            there = self.read(key)
            if there is not None and there.etag == etag:
                self.put(key, content)
                return True
            return there is not None and there.data == content

    def get(self, key: str, to: Path, sha256: str | None = None) -> None:
        """See `Store.get`."""
        path = self._path(key)
        with self._told(key), _incoming(to.parent) as temporary:
            found = _fill(temporary, path)
            if sha256 not in (None, found):
                raise ChangedError(
                    f"{self.uri(key)} was changed: it has SHA-256 {found[:12]}…, and should have "
                    f"{str(sha256)[:12]}…"
                )
            Path(temporary.name).replace(to)

    def read(self, key: str) -> Content | None:
        """See `Store.read`."""
        path = self._path(key)
        with self._told(key):
            _sweep(path.parent)
            try:
                data = path.read_bytes()
            except FileNotFoundError:
                return None
            return Content(data, hashlib.sha256(data).hexdigest())

    def head(self, key: str) -> Stored | None:
        """See `Store.head`; the hash is that of what is there."""
        path = self._path(key)
        with self._told(key):
            try:
                found = path.stat()
                return Stored(key, found.st_size, found.st_mtime, file_sha256(path))
            except (FileNotFoundError, IsADirectoryError):
                return None

    def listed(self, prefix: str = "") -> Iterator[Stored]:
        """See `Store.listed`."""
        top = self._root / prefix.rpartition("/")[0]
        with self._told(prefix):
            for path in sorted(top.rglob("*"), key=lambda path: path.as_posix()):
                key = path.relative_to(self._root).as_posix()
                if path.name.startswith(_INCOMING) or not key.startswith(prefix):
                    continue
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    if path.is_file() and not path.is_symlink():
                        found = path.stat()
                        yield Stored(key, found.st_size, found.st_mtime)

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        with self._told(key):
            self._path(key).unlink(missing_ok=True)

    def refuse_silent_overwriting(self) -> None:
        """See `Store.refuse_silent_overwriting`."""
        probe(self)

    def _path(self, key: str) -> Path:
        path = self._root / checked_key(key)
        if path.name.startswith(_INCOMING):
            raise StorageError(f"{key!r} cannot be stored: {_INCOMING}… is used here")
        if not path.resolve().is_relative_to(self._root.resolve()):
            raise StorageError(f"{path} leads out of {self._root}: remove the link there")
        return path

    @contextlib.contextmanager
    def _told(self, key: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = error.filename or self._root / key
            remedy = _REMEDY.get(error.errno or 0, "")
            raise StorageError(
                ": ".join(filter(None, (str(where), error.strerror, remedy)))
            ) from error


@contextlib.contextmanager
def _incoming(folder: Path) -> Iterator[BinaryIO]:
    """A new file in a folder, which is gone afterwards unless it has got another name."""
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    file = _created(folder)
    try:
        yield file
    finally:
        Path(file.name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what could not be written is tried again
            file.close()


def _created(folder: Path) -> BinaryIO:
    """A new file that is locked as long as it is open: so it is known whether one is in use."""
    while True:
        path = folder / f"{_INCOMING}{secrets.token_hex(8)}"
        file = path.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if path.exists():  # not swept by another process before it was locked
            return file
        file.close()


def _sweep(folder: Path) -> None:
    """Removes what processes that are gone have left."""
    for path in folder.glob(f"{_INCOMING}*"):
        with contextlib.suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _fill(file: BinaryIO, source: Path | bytes) -> str:
    """Writes a content to the disk; its hex SHA-256."""
    digest = hashlib.sha256()
    if isinstance(source, bytes):
        digest.update(source)
        file.write(source)
    else:
        with source.open("rb") as opened:
            while chunk := opened.read(_CHUNK):
                digest.update(chunk)
                file.write(chunk)
    file.flush()
    os.fsync(file.fileno())
    return digest.hexdigest()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One process at a time: a lock on the folder itself, which the system takes from the dead."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX)
        yield
    finally:
        os.close(opened)
