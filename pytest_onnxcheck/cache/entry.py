"""One entry: some files in a folder of their own, and `build.json`, which says what they are."""

from __future__ import annotations

import json
import math
import re
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_onnxcheck.files import hashed, write_atomically
from pytest_onnxcheck.measurement import HashedFile

__all__ = ["KEY", "LONGEST", "RECORD", "AlteredError", "Build", "described", "read", "seal"]

#: the file that an entry is described by; it is written last
RECORD = "build.json"

#: a key: a SHA-256 in hex
KEY = re.compile(r"[0-9a-f]{64}")

#: what a file of an entry may be called: no path leads out of its folder
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")

#: bytes of the largest `build.json` that is read: ours have some kilobytes
LONGEST = 1 << 20


class AlteredError(Exception):
    """An entry is not what was built; the text says in what."""


@dataclass(frozen=True)
class Build:
    """What was built, as `build.json` has it.

    Attributes:
        key: Hash of all it is made of, a SHA-256 in hex.
        place: Where it belongs, for people: `MODEL/VARIANT`.
        sha256: Hash of the contents of `files`, one after the other.
        files: Its files.
        seconds: What building it took.
        notes: What its builder noted, as JSON has it.
    """

    key: str
    place: str
    sha256: str
    files: tuple[HashedFile, ...]
    seconds: float
    notes: dict[str, Any]

    @property
    def size_bytes(self) -> int:
        """Bytes of its files."""
        return sum(file.size_bytes for file in self.files)

    def to_json(self) -> str:
        """The text of `build.json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> Build:
        """The build of a text that anybody may have written.

        Raises:
            AlteredError: It is none, or a file in it has a name that leads elsewhere.
        """
        try:
            found = json.loads(text)
            files = tuple(HashedFile(**file) for file in found["files"])
            build = cls(**{**found, "files": files})
        except (ValueError, TypeError, KeyError, RecursionError):  # cut, or of another version
            raise AlteredError(f"{RECORD} is not what was written") from None
        for fault in _faults(build):
            raise AlteredError(f"{RECORD}: {fault}")
        return build


def _faults(build: Build) -> list[str]:
    """What no build has that was written here."""
    found = []
    if not (isinstance(build.seconds, float | int) and 0 <= build.seconds < math.inf):
        found.append(f"seconds {build.seconds!r}")
    if not isinstance(build.place, str):
        found.append(f"place {build.place!r}")
    if not isinstance(build.notes, dict):
        found.append(f"notes {build.notes!r}")
    hashes = [build.key, build.sha256, *(file.sha256 for file in build.files)]
    found += [f"hash {it!r}" for it in hashes if not (isinstance(it, str) and KEY.fullmatch(it))]
    for file in build.files:
        if not isinstance(file.name, str) or not _NAME.fullmatch(file.name) or file.name == RECORD:
            found.append(f"a file called {file.name!r}")
        if type(file.size_bytes) is not int or file.size_bytes < 0:
            found.append(f"{file.name!r} of {file.size_bytes!r} bytes")
    if len({file.name for file in build.files}) < len(build.files) or not build.files:
        found.append("no file, or one that stands there twice")
    return found


def seal(home: Path, build: Build) -> None:
    """Writes `build.json` into the folder of its files, and deletes what else is there."""
    known = {file.name for file in build.files}
    for path in home.iterdir():
        if path.name not in known:
            path.unlink()
    write_atomically(home / RECORD, build.to_json())


def described(home: Path) -> Build:
    """What an entry says of itself; its files are not looked at.

    Raises:
        AlteredError: It says nothing that could be right.
    """
    try:
        if not stat.S_ISDIR(home.lstat().st_mode):
            raise AlteredError("no folder, but a link or a file")
        _regular(home / RECORD, 0, LONGEST)
        return Build.from_json((home / RECORD).read_bytes())
    except OSError as error:
        raise AlteredError(f"{RECORD}: {error.strerror}") from None


def read(home: Path, key: str) -> Build:
    """An entry whose every byte was looked at.

    Args:
        home: Its folder.
        key: What it is to be the build of.

    Raises:
        AlteredError: It is not what was built: cut, changed, incomplete, with files of others, or
            of another key.
    """
    build = described(home)
    if build.key != key:
        raise AlteredError(f"{RECORD} is of another key, {build.key[:16]}")
    try:
        foreign = {path.name for path in home.iterdir()} - {file.name for file in build.files}
        for name in sorted(foreign - {RECORD}):
            raise AlteredError(f"{name!r} does not belong there")
        for file in build.files:
            _regular(home / file.name, file.size_bytes, file.size_bytes)
        whole, each = hashed(home / file.name for file in build.files)
    except OSError as error:
        raise AlteredError(f"{Path(error.filename or home).name}: {error.strerror}") from None
    for file, digest in zip(build.files, each, strict=True):
        if digest != file.sha256:
            raise AlteredError(
                f"{file.name} has other contents: SHA-256 {digest[:12]}…, built {file.sha256[:12]}…"
            )
    if whole != build.sha256:
        raise AlteredError(f"{RECORD} has another hash of all files than they give")
    return build


def _regular(path: Path, least: int, most: int) -> None:
    """Refuses what is no plain file of such a size: a link, a pipe, one that was cut.

    Raises:
        AlteredError: It is not one.
        OSError: It is not there, or may not be looked at.
    """
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise AlteredError(f"{path.name} is no plain file")
    if not least <= found.st_size <= most:
        raise AlteredError(f"{path.name} has {found.st_size} bytes, not {most}")
