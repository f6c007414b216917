"""Where builds are kept: the run's own folder, one that is shared, and a remote behind it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from pytest_onnxcheck.cache.entry import AlteredError, Build
from pytest_onnxcheck.cache.folder import Folder, home_of
from pytest_onnxcheck.cache.remote import Remote
from pytest_onnxcheck.errors import CacheError, StorageError
from pytest_onnxcheck.progress import stage
from pytest_onnxcheck.storage import Address

__all__ = ["BuildCache", "Found", "Source"]

#: where a build came from
Source = Literal["built", "local", "remote"]

#: what a disk, a quota or a limit says that has no room left
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Found:
    """A build and where it is.

    Attributes:
        home: The folder with its files.
        build: What it is.
        source: `built` just now, found in a folder (`local`), or fetched (`remote`).
    """

    home: Path
    build: Build
    source: Source


@dataclass(frozen=True)
class _Wanted:
    """What `get` is asked for."""

    place: str
    key: str
    make: Callable[[Path], Build]
    check: Callable[[Path, Build], None]


class _Behind(Protocol):
    """Where a build may be copied from: a folder, or the remote."""

    @property
    def name(self) -> str:
        """Its path or address."""
        ...

    def copy(self, place: str, key: str, to: Path) -> Build | None:
        """Copies a build into a folder, and checks it there; None where there is none."""
        ...

    def reject(self, key: str) -> None:
        """Says that what was copied is not what was built."""
        ...


class BuildCache:
    """Builds under keys: found, or made and kept.

    Where the shared folder cannot be written to, entries are still copied out of it, and what is
    built goes into the run's own folder.

    Args:
        own: The run's own folder.
        shared: A folder that others use too; None where there is none.
        limit: Bytes that the folder in use is held to, see `Folder`.
        remote: The store that is asked for what is in no folder, and is given what is built. One
            that does not answer is not asked again.

    Attributes:
        told: What the user should know, each once.
    """

    def __init__(
        self,
        own: Path,
        shared: Path | None = None,
        *,
        limit: int | None = None,
        remote: Address | None = None,
    ) -> None:
        self.told: list[str] = []
        self._own = Folder(own, limit if shared is None else None)
        self._shared = None if shared is None else Folder(shared, limit)
        self._read_only: Folder | None = None
        self._remote = None if remote is None else Remote(remote)
        self._stores = self._remote is not None
        self._damage_told = False

    def get(
        self,
        place: str,
        key: str,
        make: Callable[[Path], Build],
        check: Callable[[Path, Build], None] = lambda home, build: None,
    ) -> Found:
        """The build under a key, made if it is nowhere.

        Args:
            place: Where it belongs, for people: `MODEL/VARIANT`.
            key: Hash of all it is made of, a SHA-256 in hex.
            make: Writes the files into the folder that it is given, and says what they are. What
                it leaves behind when it fails is deleted.
            check: Looks at the folder of a build that was found, whose hashes are right, and raises
                an `AlteredError` where it is none that could be used.

        Raises:
            CacheError: There is no folder that can be written to.
        """
        wanted = _Wanted(place, key, make, check)
        if self._shared is not None:
            try:
                return self._in(self._shared, wanted)
            except _UnusableError as error:
                self.told.append(
                    f"{self._shared.root}: cannot be written to: {error}. What is there is read; "
                    f"what is built is kept in {self._own.root} in this run"
                )
                self._shared, self._read_only = None, self._shared
        try:
            return self._in(self._own, wanted)
        except _UnusableError as error:
            raise CacheError(
                f"{self._own.root}: artefacts cannot be kept there: {error}. Make room (onnxcheck "
                "cache prune), or name another folder (--onnxcheck-artifacts=DIR)"
            ) from error

    def _in(self, folder: Folder, wanted: _Wanted) -> Found:
        failed = False

        def made(work: Path) -> Build:
            nonlocal failed
            try:
                return wanted.make(work)
            except Exception as error:
                failed = not any(cause.errno in _FULL for cause in _of_the_system(error))
                raise

        try:
            with folder.held(wanted.place, wanted.key) as home:
                found = self._kept(folder, home, wanted)
                if found is None:
                    found = Found(home, folder.fill(home, made), "built")
                    self._store(found, wanted.place)
                return found
        except Exception as error:
            causes = [*_of_the_system(error)]
            if failed or not causes:
                raise
            raise _UnusableError(causes[-1].strerror or str(causes[-1])) from error

    def _kept(self, folder: Folder, home: Path, wanted: _Wanted) -> Found | None:
        """What is in the folder, or can be copied into it."""
        try:
            build = folder.read(home, wanted.key)
            if build is not None:
                wanted.check(home, build)
                return Found(home, build, "local")
        except AlteredError as error:
            self._tell_damage(folder, wanted, error)
        if self._read_only is not None:
            build = self._copied(self._read_only, folder, home, wanted)
            if build is not None:
                return Found(home, build, "local")
        build = self._fetched(folder, home, wanted)
        return None if build is None else Found(home, build, "remote")

    def _fetched(self, folder: Folder, home: Path, wanted: _Wanted) -> Build | None:
        if self._remote is None:
            return None
        try:
            with stage("asking the remote cache", *wanted.place.split("/", 1)):
                return self._copied(self._remote, folder, home, wanted)
        except StorageError as error:
            self.told.append(
                f"{error}. Artefacts are built here; it is not asked again in this run"
            )
            self._remote = None
            return None

    def _store(self, found: Found, place: str) -> None:
        """Gives a build to the remote. Whoever may only read it goes on reading."""
        if self._remote is None or not self._stores:
            return
        try:
            with stage("storing in the remote cache", *place.split("/", 1)):
                self._remote.keep(found.build, found.home)
        except StorageError as error:
            self.told.append(f"{error}. What is built here is not stored there")
            self._stores = False

    def _copied(self, source: _Behind, folder: Folder, home: Path, wanted: _Wanted) -> Build | None:
        def copy(work: Path) -> Build:
            build = source.copy(wanted.place, wanted.key, work)
            if build is None:
                raise _NotThereError
            wanted.check(work, build)
            return build

        try:
            return folder.fill(home, copy)
        except AlteredError as error:
            self._tell_damage(source, wanted, error)
            source.reject(wanted.key)
        except _NotThereError:
            pass
        return None

    def _tell_damage(self, where: _Behind, wanted: _Wanted, error: AlteredError) -> None:
        """Tells of the first entry that is not what was built: on a bad disk all are."""
        if not self._damage_told:
            name = home_of(wanted.place, wanted.key)
            self.told.append(f"{where.name}: {name}: {error}: not used, but built again")
        self._damage_told = True


class _UnusableError(Exception):
    """Nothing can be written into a folder."""


class _NotThereError(Exception):
    """A source has no such entry."""


def _of_the_system(error: BaseException | None) -> Iterator[OSError]:
    """The system's errors behind an error, the first one last."""
    while error is not None:
        if isinstance(error, OSError):
            yield error
        error = error.__cause__ or error.__context__
