"""What machines have put into a remote: listed, verified and removed, as of a folder."""

from __future__ import annotations

import contextlib
import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from pytest_onnxcheck.cache.entry import LONGEST, AlteredError, Build
from pytest_onnxcheck.cache.folder import Kept, home_of
from pytest_onnxcheck.cache.remote import Remote
from pytest_onnxcheck.storage import Address, Stored, open_store

__all__ = ["StoredBuilds"]

_ENTRY = re.compile(r"entries/([0-9a-f]{64})\.json")
_OBJECT = re.compile(r"objects/([0-9a-f]{64})")

#: seconds that a file may lie there before its entry is stored
_UPLOAD = 24 * 3600.0


class StoredBuilds:
    """The builds in a remote.

    Args:
        address: Of the store. Every method raises `StorageError` where it cannot be used.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._store = open_store(address)

    def entries(self) -> list[Kept]:
        """All entries, damaged ones included, those that were stored first before others."""
        found = [self._kept(stored, key) for stored, key in self._entries()]
        return sorted(found, key=lambda kept: (kept.used, kept.name))

    def verify(self) -> dict[str, str]:
        """What is wrong with entries, by name; all of them are fetched, one after the other."""
        remote, found = Remote(self._address), {}
        for stored, key in self._entries():
            name = self._kept(stored, key).name
            try:
                with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
                    remote.copy("", key, Path(folder))
            except AlteredError as error:
                found[name] = str(error)
        return found

    def prune(self, limit: int) -> list[Kept]:
        """Removes damaged entries, then those stored first, until the rest fits the limit.

        Files that no entry is left of go too, unless they may belong to one that is being stored.

        Args:
            limit: Bytes.

        Returns:
            What was removed.
        """
        listed = list(self._entries())
        described = [(stored, self._kept(stored, key)) for stored, key in listed]
        described.sort(key=lambda each: (each[1].build is not None, each[1].used))
        total, removed = sum(kept.size_bytes for _, kept in described), []
        for stored, kept in described:
            if kept.build is None or total > limit:
                self._store.delete(stored.key)
                removed.append(kept)
                total -= kept.size_bytes
        gone = {id(kept) for kept in removed}
        left = {sha256 for _, kept in described if id(kept) not in gone for sha256 in _files(kept)}
        freed = {sha256 for kept in removed for sha256 in _files(kept)}
        for stored in list(self._store.listed("objects/")):
            found = _OBJECT.fullmatch(stored.key)
            if found is None or found[1] in left:
                continue
            if found[1] in freed or stored.modified < time.time() - _UPLOAD:
                self._store.delete(stored.key)
        return removed

    def _entries(self) -> Iterator[tuple[Stored, str]]:
        for stored in self._store.listed("entries/"):
            if found := _ENTRY.fullmatch(stored.key):
                yield stored, found[1]

    def _kept(self, stored: Stored, key: str) -> Kept:
        build = None
        if stored.size <= LONGEST and (content := self._store.read(stored.key)) is not None:
            with contextlib.suppress(AlteredError):
                build = Build.from_json(content.data)
        if build is None or build.key != key:
            return Kept(key, 0, stored.modified, False, None)
        name = home_of(build.place, key)
        return Kept(name, build.size_bytes, stored.modified, False, build)


def _files(kept: Kept) -> set[str]:
    return set() if kept.build is None else {file.sha256 for file in kept.build.files}
