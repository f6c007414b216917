"""A cache that machines share: descriptions by key and files by hash, in a store."""

from __future__ import annotations

import queue
import shutil
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from pytest_onnxcheck.cache import entry
from pytest_onnxcheck.cache.entry import LONGEST, RECORD, AlteredError, Build
from pytest_onnxcheck.errors import ChangedError, StorageError
from pytest_onnxcheck.measurement import HashedFile
from pytest_onnxcheck.storage import Address, Store, open_store

__all__ = ["Remote"]

#: seconds that a store may take for something small
_PATIENCE = 15.0
#: bytes a second below which building is faster than waiting
_SLOWEST = 4e6

_T = TypeVar("_T")


class Remote:
    """What is in a store, and what is put there: `entries/KEY.json` and `objects/SHA256`.

    A description is written last, and files are found by what they hold: of two machines that store
    the same build at once, each entry is whole. Nothing that was read is used unchecked.

    Args:
        address: Of the store; nothing is asked of it yet.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._store: Store | None = None
        self._rejected: set[str] = set()

    @property
    def name(self) -> str:
        """Its address."""
        return self._address.uri()

    def copy(self, place: str, key: str, to: Path) -> Build | None:
        """Fetches a build into a folder.

        Args:
            place: Not looked at: the key alone says what it is.
            key: Hash of all it is made of.
            to: The folder.

        Returns:
            The build; None where there is none.

        Raises:
            AlteredError: What is there is not what was built.
            StorageError: The store does not answer, or not in time.
        """
        text = self._asked(_PATIENCE, partial(_described, name=_entry(key)))
        if text is None:
            return None
        build = Build.from_json(text)
        free = shutil.disk_usage(to).free
        if build.size_bytes > free:
            raise AlteredError(
                f"it is to have {build.size_bytes} bytes, and {free} are free on this disk"
            )
        for file in build.files:
            self._asked(_time_for(file), partial(_get, file=file, to=to / file.name))
        (to / RECORD).write_text(build.to_json(), encoding="utf-8")
        return entry.read(to, key)

    def reject(self, key: str) -> None:
        """Has an entry replaced when it is stored again: what is there is not what was built."""
        self._rejected.add(key)

    def keep(self, build: Build, home: Path) -> None:
        """Stores a build; one that another machine has stored stays, if it was not rejected.

        Raises:
            StorageError: It could not be stored. What was, is of use to the next that tries.
        """
        rejected = build.key in self._rejected
        for file in build.files:
            put = partial(_put, file=file, source=home / file.name, rejected=rejected)
            self._asked(_time_for(file), put)
        text = build.to_json().encode()

        def describe(store: Store) -> None:
            if rejected:
                store.put(_entry(build.key), text)
            else:
                store.put_if_absent(_entry(build.key), text)

        self._asked(_PATIENCE, describe)
        self._rejected.discard(build.key)

    def _asked(self, seconds: float, ask: Callable[[Store], _T]) -> _T:
        """What the store answers, or an error by then: a slow server must not hold up a run."""

        def asked() -> _T:
            if self._store is None:
                self._store = open_store(self._address)
            return ask(self._store)

        return _within(seconds, self.name, asked)


def _within(seconds: float, name: str, ask: Callable[[], _T]) -> _T:
    answers: queue.SimpleQueue[tuple[_T | None, Exception | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((ask(), None))
        except Exception as error:
            answers.put((None, error))

    # not of a pool, whose threads Python waits for at its end
    threading.Thread(target=run, name="onnxcheck-cache", daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise StorageError(f"{name}: no answer within {seconds:.3g} s") from None
    if isinstance(error, StorageError | AlteredError):
        raise error
    if error is not None:  # its text may hold what was sent
        raise StorageError(f"{name}: {type(error).__name__}") from error
    return answer  # type: ignore[return-value] # there is no error


def _time_for(file: HashedFile) -> float:
    return _PATIENCE + file.size_bytes / _SLOWEST


def _entry(key: str) -> str:
    return f"entries/{key}.json"


def _object(file: HashedFile) -> str:
    return f"objects/{file.sha256}"


def _described(store: Store, name: str) -> bytes | None:
    """A description; None where there is none.

    Raises:
        AlteredError: It is too long to be one.
    """
    found = store.head(name)
    if found is None:
        return None
    if found.size > LONGEST:
        raise AlteredError(f"{RECORD} has {found.size} bytes, and {LONGEST} at most")
    content = store.read(name)
    return None if content is None else content.data


def _get(store: Store, file: HashedFile, to: Path) -> None:
    """Fetches a file, if it has the size that it should have.

    Raises:
        AlteredError: It has not, or other contents, or is not there.
    """
    found = store.head(_object(file))
    if found is None:
        raise AlteredError(f"{file.name} is not there")
    if found.size != file.size_bytes:
        raise AlteredError(f"{file.name} has {found.size} bytes, not {file.size_bytes}")
    try:
        store.get(_object(file), to, file.sha256)
    except ChangedError:
        raise AlteredError(f"{file.name} has other contents than were built") from None


def _put(store: Store, file: HashedFile, source: Path, rejected: bool) -> None:
    if rejected:  # a store may take what it holds for what it was told to hold
        store.delete(_object(file))
    store.put(_object(file), source, sha256=file.sha256)
