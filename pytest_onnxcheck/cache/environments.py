"""Environments that were made for targets: listed, and removed where no living process uses one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from pytest_onnxcheck.cache.marks import Mark, lock_of
from pytest_onnxcheck.cache.users import Users

__all__ = ["Environments", "KeptEnvironment"]

#: the folder of an environment is called by what makes it another than others
_HOME = re.compile(r"[0-9a-f]{16}")
#: the file in it with what it is of, whose time is that of its last use
_NOTE = "environment.json"
#: how the folder of one that is being made begins
_MAKING = ".making-"


@dataclass(frozen=True)
class KeptEnvironment:
    """An environment as it lies there.

    Attributes:
        name: Its folder's.
        packages: What was installed into it, for a person; empty where it does not say.
        size_bytes: Bytes of what is in it.
        used: When it was last used, in seconds since 1970.
        in_use: Whether a living process uses it.
    """

    name: str
    packages: str
    size_bytes: int
    used: float
    in_use: bool


class Environments:
    """Environments in a folder each, with a lock beside it.

    Args:
        root: Where they are; made when one is first held.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._mark = Mark(root, "environments made by pytest-onnxcheck")
        self._users = Users(root)

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[Path]:
        """An environment's folder, which need not be there yet; nobody else makes or removes it.

        It counts as used from then on, until this object or the process is gone.

        Raises:
            OSError: Nothing can be written there.
        """
        self._mark.set()
        home = self.root / name
        with lock_of(home):
            self._users.add(name)
            yield home
            with contextlib.suppress(OSError):
                os.utime(home / _NOTE)

    @contextlib.contextmanager
    def making(self, home: Path, packages: str) -> Iterator[Path]:
        """Where one that is held is made; it then gets its name, unless that failed.

        Args:
            home: Its folder.
            packages: What is installed into it, for a person.
        """
        work = home.with_name(f"{_MAKING}{home.name}")
        shutil.rmtree(work, ignore_errors=True)  # of a process that was killed
        try:
            yield work
            (work / _NOTE).write_text(json.dumps({"packages": packages}), encoding="utf-8")
            work.rename(home)
        finally:
            shutil.rmtree(work, ignore_errors=True)

    @property
    def is_ours(self) -> bool:
        """Whether it is there, and was made for environments."""
        return self._mark.is_there

    def entries(self) -> list[KeptEnvironment]:
        """All of them, those that were not used for longest first; none in another's folder."""
        if not self.is_ours:
            return []
        used = self._users.used()
        found = [self._kept(home, used) for home in self._folders() if _HOME.fullmatch(home.name)]
        return sorted(found, key=lambda kept: (kept.used, kept.name))

    def remove(self, name: str) -> bool:
        """Removes one, unless a living process uses it; gives whether it is gone."""
        home = self.root / name
        try:
            with lock_of(home, timeout=0):
                if name in self._users.used():
                    return False
                # first out of the way: nobody is to find half of it
                work = home.with_name(f"{_MAKING}{name}")
                shutil.rmtree(work, ignore_errors=True)
                home.rename(work)
                shutil.rmtree(work, ignore_errors=True)
                return True
        except (Timeout, OSError):
            return False

    def tidy(self) -> None:
        """Removes what killed processes left half made, or half removed."""
        for work in self._folders() if self.is_ours else ():
            if not work.name.startswith(_MAKING):
                continue
            home = work.with_name(work.name.removeprefix(_MAKING))
            with contextlib.suppress(Timeout, OSError), lock_of(home, timeout=0):
                shutil.rmtree(work, ignore_errors=True)

    def _folders(self) -> Iterator[Path]:
        """The folders in it; links are not followed."""
        for path in sorted(self.root.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield path

    def _kept(self, home: Path, used: set[str]) -> KeptEnvironment:
        packages, when = "", 0.0
        with contextlib.suppress(OSError):
            when = home.stat().st_mtime
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            packages = str(json.loads((home / _NOTE).read_text(encoding="utf-8"))["packages"])
            when = (home / _NOTE).stat().st_mtime
        return KeptEnvironment(home.name, packages, _size(home), when, home.name in used)


def _size(home: Path) -> int:
    total = 0
    for folder, _, names in os.walk(home):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(folder, name).lstat().st_size
    return total
