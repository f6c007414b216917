"""What is in a cache of builds and environments, whether it is whole, and what is removed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_onnxcheck.cache.environments import Environments, KeptEnvironment
from pytest_onnxcheck.cache.folder import Folder, Kept
from pytest_onnxcheck.cache.stored import StoredBuilds
from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.places import ENVIRONMENTS
from pytest_onnxcheck.storage import parse

__all__ = [
    *("Cached", "CachedEnvironment", "Listed", "Removed", "Verified"),
    *("clear", "ls", "prune", "verify"),
]


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
class CachedEnvironment:
    """An environment that was made for a target, in a cache's folder.

    Attributes:
        name: Its folder in the cache's.
        packages: What was installed into it; empty where it does not say.
        size_bytes: Bytes of its files.
        used: When it was last used, in UTC.
        in_use: Whether a living run uses it.
    """

    name: str
    packages: str
    size_bytes: int
    used: str
    in_use: bool


@dataclass(frozen=True)
class Listed:
    """What is in a cache.

    Attributes:
        where: Its folder or address.
        builds: What is there, the longest unused first.
        environments: Environments of targets, likewise; none in a remote.
    """

    where: str
    builds: tuple[Cached, ...]
    environments: tuple[CachedEnvironment, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of all builds and environments."""
        every: list[Cached | CachedEnvironment] = [*self.builds, *self.environments]
        return sum(each.size_bytes for each in every)

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
        builds: The builds that were removed.
        left: How many are left.
        left_bytes: Bytes of what is left, environments included.
        in_use: How much of what is left a living run uses.
        environments: The environments that were removed.
        environments_left: How many are left.
    """

    where: str
    builds: tuple[Cached, ...]
    left: int
    left_bytes: int
    in_use: int
    environments: tuple[CachedEnvironment, ...] = ()
    environments_left: int = 0

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
    builds = tuple(map(_cached, _opened(where).entries()))
    environments = _environments(where)
    found = environments.entries() if environments else []
    return Listed(where, builds, tuple(map(_environment, found)))


def verify(where: str) -> Verified:
    """Reads every byte of a cache; of a remote, all of it is fetched.

    Raises:
        OnnxCheckError: There is no cache, or it cannot be read.
    """
    cache = _opened(where)
    return Verified(where, len(cache.entries()), cache.verify())


def prune(where: str, limit: int) -> Removed:
    """Removes damaged builds, and what was not used for longest, until the rest fits a limit.

    Args:
        where: The cache.
        limit: Bytes of builds and environments. What living runs use stays, and what is neither.

    Raises:
        OnnxCheckError: There is no cache, or it cannot be written to.
    """
    cache = _opened(where)
    environments = _environments(where)
    gone = _removed(environments, cache.entries(), limit) if environments else []
    kept = environments.entries() if environments else []
    removed = cache.prune(max(0, limit - sum(each.size_bytes for each in kept)))
    left = cache.entries()
    every: list[Kept | KeptEnvironment] = [*left, *kept]
    return Removed(
        where,
        tuple(map(_cached, removed)),
        len(left),
        sum(each.size_bytes for each in every),
        sum(each.in_use for each in every),
        tuple(map(_environment, gone)),
        len(kept),
    )


def clear(where: str) -> Removed:
    """Removes every build and environment that no living run uses.

    Raises:
        OnnxCheckError: There is no cache, or it cannot be written to.
    """
    return prune(where, 0)


def _opened(where: str) -> Folder | StoredBuilds:
    if "://" in where:
        return StoredBuilds(parse(where))
    folder = Folder(Path(where))
    environments = _environments(where)
    if not folder.is_ours and not (environments and environments.is_ours):
        raise OnnxCheckError(
            f"{where}: no cache of builds: name the folder of --onnxcheck-cache (default: "
            ".onnxcheck), or s3://BUCKET/PREFIX or file:///FOLDER of --onnxcheck-cache-remote"
        )
    return folder


def _environments(where: str) -> Environments | None:
    """The environments of a cache's folder; a remote has none."""
    return None if "://" in where else Environments(Path(where, ENVIRONMENTS))


def _removed(
    environments: Environments, builds: Iterable[Kept], limit: int
) -> list[KeptEnvironment]:
    """Removes the environments that go, where builds as old go too, until the rest fits a limit."""
    environments.tidy()
    every: list[Kept | KeptEnvironment] = [build for build in builds if build.build is not None]
    every += environments.entries()
    total, gone = sum(each.size_bytes for each in every), []
    for each in sorted(every, key=lambda kept: kept.used):
        if total <= limit:
            break
        if isinstance(each, KeptEnvironment):
            if not environments.remove(each.name):
                continue
            gone.append(each)
        total -= 0 if each.in_use else each.size_bytes
    return gone


def _environment(kept: KeptEnvironment) -> CachedEnvironment:
    name = f"{ENVIRONMENTS}/{kept.name}"
    return CachedEnvironment(name, kept.packages, kept.size_bytes, _when(kept.used), kept.in_use)


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _cached(kept: Kept) -> Cached:
    seconds = None if kept.build is None else kept.build.seconds
    return Cached(kept.name, kept.size_bytes, _when(kept.used), seconds, kept.in_use)
