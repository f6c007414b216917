"""A folder of entries, which several processes and checkouts may share."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from pytest_onnxcheck.cache import entry
from pytest_onnxcheck.cache.entry import RECORD, AlteredError, Build
from pytest_onnxcheck.cache.marks import Mark, lock_of
from pytest_onnxcheck.cache.users import Users
from pytest_onnxcheck.files import abandoned, building

__all__ = ["Folder", "Kept", "home_of"]

#: the folder of an entry is called by the beginning of its key
_HOME = re.compile(r"[0-9a-f]{16}")

#: what the system says of a file that may not, or cannot, be read
_UNREADABLE = (errno.EACCES, errno.EPERM, errno.EIO)


@dataclass(frozen=True)
class Kept:
    """An entry as it lies there.

    Attributes:
        name: Where it belongs, and the beginning of its key: `MODEL/VARIANT/0123456789abcdef`.
        size_bytes: Bytes of what is in it.
        used: When it was last used, or stored in a remote, in seconds since 1970.
        in_use: Whether a living process uses it.
        build: What it says of itself; None where that is damaged.
    """

    name: str
    size_bytes: int
    used: float
    in_use: bool
    build: Build | None


def home_of(place: str, key: str) -> str:
    """The name of an entry: `MODEL/VARIANT/0123456789abcdef`."""
    return f"{place}/{key[:16]}"


class Folder:
    """Entries in `PLACE/KEY`, each with a lock beside it.

    What killed processes left half-built is removed when an entry is first held.

    Args:
        root: The folder; made when something is first kept in it.
        limit: Bytes beyond which the entries that were not used for longest are removed when
            something is added; None for no limit. What living processes use stays.
    """

    def __init__(self, root: Path, limit: int | None = None) -> None:
        self.root = root
        self._limit = limit
        self._left: int | None = None
        self._tidy = False
        self._mark = Mark(root, "made by pytest-onnxcheck")
        self._users = Users(root)

    @property
    def name(self) -> str:
        """Its path."""
        return str(self.root)

    @contextlib.contextmanager
    def held(self, place: str, key: str) -> Iterator[Path]:
        """An entry's folder; in the meantime no other process reads, builds or removes it.

        It counts as used from then on, until this object or the process is gone.

        Raises:
            OSError: Nothing can be written there, or a link leads out of the cache.
        """
        home = self.root / home_of(place, key)
        self._prepare(home.parent)
        with lock_of(home):
            self._users.add(home_of(place, key))
            yield home

    def read(self, home: Path, key: str) -> Build | None:
        """The entry of a folder that is held; None where there is none.

        Raises:
            AlteredError: What is there is not what was built.
        """
        if not os.path.lexists(home):
            return None
        build = entry.read(home, key)
        with contextlib.suppress(OSError):
            os.utime(home / RECORD)
        return build

    def fill(self, home: Path, make: Callable[[Path], Build]) -> Build:
        """Puts an entry into a folder that is held, in place of what is there: whole or not at all.

        Args:
            home: The folder.
            make: Writes the files into the folder that it is given.
        """
        _remove(home)
        with building(home.parent) as temporary:
            work = temporary / "work"
            work.mkdir()
            build = make(work)
            entry.seal(work, build)
            work.rename(home)
        self._make_room(build.size_bytes)
        return build

    def copy(self, place: str, key: str, to: Path) -> Build | None:
        """Copies an entry out without a lock, where this process may not write.

        Returns:
            The entry; None where there is none, or no longer.

        Raises:
            AlteredError: What is there is not what was built.
        """
        home = self.root / home_of(place, key)
        if not self._inside(home.parent) or not os.path.lexists(home):
            return None
        try:
            build = entry.described(home)
            for file in build.files:
                shutil.copyfile(home / file.name, to / file.name, follow_symlinks=False)
            (to / RECORD).write_text(build.to_json(), encoding="utf-8")
            return entry.read(to, key)
        except FileNotFoundError:  # removed in the meantime
            return None
        except OSError as error:
            if error.errno not in _UNREADABLE or not str(error.filename).startswith(str(home)):
                raise
            raise AlteredError(f"{Path(error.filename).name}: {error.strerror}") from None

    def reject(self, key: str) -> None:
        """Nothing: what may not be written to stays as it is."""

    def entries(self) -> list[Kept]:
        """All entries, damaged ones included, those that were not used for longest first."""
        used = self._users.used()
        found = [_kept(self.root, home, used) for home in self._homes()]
        return sorted(found, key=lambda kept: (kept.used, kept.name))

    def verify(self) -> dict[str, str]:
        """What is wrong with entries, by name; every byte is read."""
        found = {}
        for kept in self.entries():
            try:
                home = self.root / kept.name
                key = entry.described(home).key
                entry.read(home, key if key.startswith(home.name) else home.name)
            except AlteredError as error:
                if os.path.lexists(home):  # not removed in the meantime
                    found[kept.name] = str(error)
        return found

    def prune(self, limit: int) -> list[Kept]:
        """Removes damaged entries, then those not used for longest, until the rest fits the limit.

        Args:
            limit: Bytes.

        Returns:
            What was removed; never what a living process uses.
        """
        removed = []
        entries = self.entries()
        total = sum(kept.size_bytes for kept in entries)
        for kept in sorted(entries, key=lambda kept: kept.build is not None):
            if (kept.build is None or total > limit) and self._evict(kept.name):
                removed.append(kept)
                total -= kept.size_bytes
        return removed

    def _make_room(self, added: int) -> None:
        """Prunes, where what was added since it was last looked is more than was left."""
        if self._limit is None:
            return
        if self._left is None or added > self._left:
            self.prune(self._limit)
            total = sum(kept.size_bytes for kept in self.entries())
            # where all is in use, looking again at every build would find the same
            self._left = max(self._limit - total, self._limit // 10)
        else:
            self._left -= added

    def _evict(self, name: str) -> bool:
        home = self.root / name
        try:
            with lock_of(home, timeout=0):
                if name in self._users.used():
                    return False
                _remove(home)
                return not os.path.lexists(home)
        except Timeout:
            return False

    def _homes(self) -> Iterator[Path]:
        """The folders of entries; links are not followed."""
        for variant in self._variants():
            yield from (home for home in _folders(variant) if _HOME.fullmatch(home.name))

    def _variants(self) -> Iterator[Path]:
        for model in _folders(self.root):
            yield from _folders(model)

    @property
    def is_ours(self) -> bool:
        """Whether it is there, and was made for builds: nothing is removed from another folder."""
        return self._mark.is_there

    def _prepare(self, folder: Path) -> None:
        self._mark.set()
        if not self._inside(folder):
            raise OSError(f"{folder} leads out of {self.root} by a link")
        folder.mkdir(parents=True, exist_ok=True)
        if not self._tidy:
            self._tidy = True
            for variant in self._variants():
                abandoned(variant)

    def _inside(self, folder: Path) -> bool:
        return folder.resolve().is_relative_to(self.root.resolve())


def _folders(path: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as found:
        for each in sorted(found, key=lambda each: each.name):
            if each.is_dir(follow_symlinks=False) and not each.name.startswith("."):
                yield Path(each.path)


def _kept(root: Path, home: Path, used: set[str]) -> Kept:
    name, build, size, when = home.relative_to(root).as_posix(), None, 0, 0.0
    with contextlib.suppress(AlteredError):
        build = entry.described(home)
    with contextlib.suppress(OSError):
        size = sum(path.lstat().st_size for path in home.iterdir())
        when = (home / RECORD).lstat().st_mtime
    return Kept(name, size, when, name in used, build)


def _remove(home: Path) -> None:
    """Removes an entry, or what is in its place; what a link leads to is left alone."""
    if home.is_symlink() or home.is_file():
        home.unlink()
    else:
        shutil.rmtree(home, ignore_errors=True)
