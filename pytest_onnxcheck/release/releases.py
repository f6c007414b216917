"""What is published at an address, and which version of each name is current."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.release.current import Current, move, read_current
from pytest_onnxcheck.release.published import RELEASE, ReleaseFile, read_release
from pytest_onnxcheck.storage import Store, open_store
from pytest_onnxcheck.wording import meant, several

__all__ = ["Releases", "releases", "rollback"]


@dataclass(frozen=True)
class Releases:
    """What is published.

    Attributes:
        uri: The address.
        released: The releases, by name, the oldest first.
        current: Name -> the version that is current.
        unfinished: `NAME/VERSION` of what has files and no `release.json`.
        problems: What could not be read.
    """

    uri: str
    released: tuple[ReleaseFile, ...]
    current: dict[str, str]
    unfinished: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def lines(self) -> Iterator[str]:
        """A line a release; the current one of each name has a star."""
        if not self.released:
            yield f"{self.uri}: nothing is published there"
        for one in self.released:
            star = "*" if self.current.get(one.name) == one.version else " "
            yield (
                f"{star} {one.name}/{one.version}  {one.model}::{one.variant}, "
                f"{one.size_bytes:,} bytes, gated {one.date}"
            )

    @property
    def told(self) -> Iterator[str]:
        """What should be told besides."""
        for one in self.unfinished:
            yield (
                f"{one} is not released: its publishing goes on, or was cut off: publish the same "
                "bundle again, which completes it, or remove the folder"
            )
        yield from self.problems

    def to_json(self) -> dict[str, Any]:
        """What a machine reads of it."""
        return asdict(self)


def releases(uri: str | Path, name: str | None = None) -> Releases:
    """Lists the releases at an address.

    Args:
        uri: What bundles were published to.
        name: Of this name alone.

    Raises:
        StorageError: It cannot be read.
    """
    store = open_store(uri)
    found, current, problems, folders = [], {}, [], set()
    for one in store.listed(f"{name}/" if name else ""):
        parts = one.key.split("/")
        if len(parts) < 3:
            continue
        folders.add("/".join(parts[:2]))
        if parts[2:] != [RELEASE]:
            continue
        try:
            release = read_release(store, one.key)
        except StorageError as error:
            problems.append(str(error))
            folders.discard("/".join(parts[:2]))
            continue
        if release is None:  # removed meanwhile
            continue
        if [release.name, release.version] != parts[:2]:
            problems.append(
                f"{store.uri(one.key)} is of {release.name}/{release.version}: a release that was "
                "copied or renamed is none: publish the bundle there"
            )
            folders.discard("/".join(parts[:2]))
            continue
        found.append(release)
    for known in sorted({release.name for release in found}):
        try:
            pointer = read_current(store, known)
        except StorageError as error:
            problems.append(str(error))
            continue
        if pointer is not None:
            current[known] = pointer.version
    finished = {f"{release.name}/{release.version}" for release in found}
    return Releases(
        store.uri(),
        tuple(sorted(found, key=lambda release: (release.name, release.date, release.version))),
        current,
        tuple(sorted(folders - finished)),
        tuple(problems),
    )


def rollback(uri: str | Path, version: str, name: str | None = None) -> Current:
    """Makes a version current that is published.

    Args:
        uri: What it was published to.
        version: The version.
        name: Its name, where several names have that version.

    Raises:
        StorageError: There is no such version, or the pointer cannot be moved.
    """
    store = open_store(uri)
    of = _named(store, version, name)
    return move(store, of, version, "rollback", unless=lambda there: there.version == version)


def _named(store: Store, version: str, name: str | None) -> str:
    """The name that has a version."""
    names = [one.name for one in releases(store.uri(), name).released if one.version == version]
    if len(names) == 1:
        return names[0]
    if names:
        raise StorageError(
            f"{version} is a version of {several(names)}: say of which (--name NAME)"
        )
    there = [one.version for one in releases(store.uri(), name).released]
    raise StorageError(
        f"{store.uri(name or '')} has no release {version}{meant(version, there)}: onnxcheck "
        f"releases {store.uri()} lists them"
    )
