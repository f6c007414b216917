"""`current.json`: which version of a name is current, and which were before."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.manifest.terms import NAME
from pytest_onnxcheck.record.encoding import as_json, read
from pytest_onnxcheck.storage import Store

__all__ = ["CURRENT", "Current", "Move", "move", "read_current"]

CURRENT = "current.json"
_FORMAT = 1
#: how often a pointer is tried that others move at the same time
_TRIES = 50


@dataclass(frozen=True)
class Move:
    """One move of the pointer.

    Attributes:
        version: Where to.
        date: When, in UTC, as ISO 8601.
        why: `published`, or `rollback`.
    """

    version: str
    date: str
    why: Literal["published", "rollback"]


@dataclass(frozen=True)
class Current:
    """What `current.json` holds.

    Attributes:
        format: Version of this format.
        name: The name whose versions these are.
        version: The current one.
        moves: All moves, the last one at the end.
    """

    format: int
    name: str
    version: str
    moves: tuple[Move, ...]

    def was(self, version: str) -> bool:
        """Whether a version is current, or was so at some time."""
        return any(move.version == version for move in self.moves)


def read_current(store: Store, name: str = "") -> Current | None:
    """The pointer of a name, or that at the store's own address; None where there is none.

    Raises:
        StorageError: It is no such file.
    """
    return _read(store, name)[0]


def move(
    store: Store,
    name: str,
    version: str,
    why: Literal["published", "rollback"],
    unless: Callable[[Current], bool],
) -> Current:
    """Points at a version, unless something is true of what is there; gives what is there then.

    Of several at once each comes after another: a pointer is replaced only as it was read.

    Raises:
        StorageError: It is no such file, or others never leave it alone.
    """
    for _ in range(_TRIES):
        there, etag = _read(store, name)
        if there is not None and unless(there):
            return there
        done = Move(version, datetime.now(UTC).isoformat(timespec="seconds"), why)
        if there is None:
            wanted = Current(_FORMAT, name, version, (done,))
        else:
            wanted = replace(there, version=version, moves=(*there.moves, done))
        content, key = as_json(asdict(wanted)).encode(), f"{name}/{CURRENT}"
        if etag is None:
            stored = store.put_if_absent(key, content)
        else:
            stored = store.replace(key, content, etag)
        if stored:
            return wanted
    raise StorageError(
        f"{store.uri(f'{name}/{CURRENT}')}: others moved it {_TRIES} times meanwhile: try again"
    )


def _read(store: Store, name: str) -> tuple[Current | None, str | None]:
    key = f"{name}/{CURRENT}" if name else CURRENT
    content = store.read(key)
    if content is None:
        return None, None
    try:
        found = read(Current, json.loads(content.data))
        if not NAME.fullmatch(found.version):
            raise ValueError(f"version: {found.version!r} is no name")
        return found, content.etag
    except ValueError as error:
        raise StorageError(
            f"{store.uri(key)} was changed, or is of something else: {error}: move it away; the "
            "next onnxcheck publish, or onnxcheck releases --rollback, writes it anew"
        ) from error
