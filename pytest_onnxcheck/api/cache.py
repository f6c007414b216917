"""What is in a cache of builds, whether it is what was built, and what is removed from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_onnxcheck.cache.folder import Folder, Kept
from pytest_onnxcheck.cache.stored import StoredBuilds
from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.storage import parse

__all__ = ["Cached", "Listed", "Removed", "Verified", "clear", "ls", "prune", "verify"]


@dataclass(frozen=True)
class Cached:
    """A build in a cache.

    Attributes:
        name: `MODEL/VARIANT/` and the beginning of its key; of a damaged one in a remote its key.
        size_bytes: Bytes of its files.
        used: When it was last used, or stored in a remote, in UTC.
        seconds: What building it took; None where it is damaged.
        in_use: Whether a living run uses it.
    """

    name: str
    size_bytes: int
    used: str
    seconds: float | None
    in_use: bool


@dataclass(frozen=True)
class Listed:
    """What is in a cache.

    Attributes:
        where: Its folder or address.
        builds: What is there, the longest unused first.
    """

    where: str
    builds: tuple[Cached, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all builds."""
        return sum(build.size_bytes for build in self.builds)

    def to_json(self) -> dict[str, Any]:
        """The listing as JSON has it."""
        return {**dataclasses.asdict(self), "size_bytes": self.size_bytes}


@dataclass(frozen=True)
class Verified:
    """Whether builds are what was built.

    Attributes:
        where: The cache.
        count: How many there are.
        damaged: What is wrong with those that are not, by name.
    """

    where: str
    count: int
    damaged: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Removed:
    """What was removed from a cache.

    Attributes:
        where: The cache.
        builds: What was removed.
        left: How many are left.
        left_bytes: Bytes of these.
        in_use: How many of them a living run uses.
    """

    where: str
    builds: tuple[Cached, ...]
    left: int
    left_bytes: int
    in_use: int

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return dataclasses.asdict(self)


def ls(where: str) -> Listed:
    """What is in a cache.

    Args:
        where: Its folder, or `s3://BUCKET/PREFIX` or `file:///FOLDER` of a remote.

    Raises:
        OnnxCheckError: There is no cache, or it cannot be read.
    """
    return Listed(where, tuple(map(_cached, _opened(where).entries())))


def verify(where: str) -> Verified:
    """Reads every byte of a cache; of a remote, all of it is fetched.

    Raises:
        OnnxCheckError: There is no cache, or it cannot be read.
    """
    cache = _opened(where)
    return Verified(where, len(cache.entries()), cache.verify())


def prune(where: str, limit: int) -> Removed:
    """Removes damaged builds, and those not used for longest, until the rest fits a limit.

    Args:
        where: The cache.
        limit: Bytes. What living runs use stays, and what is no build.

    Raises:
        OnnxCheckError: There is no cache, or it cannot be written to.
    """
    cache = _opened(where)
    removed = cache.prune(limit)
    left = cache.entries()
    return Removed(
        where,
        tuple(map(_cached, removed)),
        len(left),
        sum(kept.size_bytes for kept in left),
        sum(kept.in_use for kept in left),
    )


def clear(where: str) -> Removed:
    """Removes every build that no living run uses.

    Raises:
        OnnxCheckError: There is no cache, or it cannot be written to.
    """
    return prune(where, 0)


def _opened(where: str) -> Folder | StoredBuilds:
    if "://" in where:
        return StoredBuilds(parse(where))
    folder = Folder(Path(where))
    if not folder.is_ours:
        raise OnnxCheckError(
            f"{where}: no cache of builds: name the folder of --onnxcheck-cache (default: "
            ".onnxcheck), or s3://BUCKET/PREFIX or file:///FOLDER of --onnxcheck-cache-remote"
        )
    return folder


def _cached(kept: Kept) -> Cached:
    used = datetime.fromtimestamp(kept.used, UTC).isoformat(timespec="seconds")
    seconds = None if kept.build is None else kept.build.seconds
    return Cached(kept.name, kept.size_bytes, used, seconds, kept.in_use)
