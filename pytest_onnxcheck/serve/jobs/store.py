"""huey as jobs need it: its storage in a file or in Redis, with JSON in it and never a pickle."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    from huey import Huey

__all__ = ["StoreError", "open_huey", "reached", "without_password"]

_NAME = "onnxcheck"
#: seconds that a server may take to answer, and that one writer waits for another
_PATIENCE = 20.0

#: an address of which it is certain where its password is: it has no / ? # that is not written %XX
_ADDRESS = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?:[^/?#]*@)?"
    r"(?P<place>(?:[\w.-]+|\[[0-9A-Fa-f:.]+\])?(?::\d+)?(?:/[^/?#@]*)?)(?:\?[^@#]*)?"
)
#: what is meant for one, and not for a file
_MEANT = re.compile(r"\w[\w+.-]*://.*|rediss?:.*|.*@[^/@]+:\d+(?:/\d*)?", re.DOTALL)


class StoreError(OnnxCheckError):
    """The jobs cannot be read or written."""


def without_password(store: str) -> str:
    """The address of a store, as it may be printed; of one that cannot be read, nothing."""
    if not _MEANT.fullmatch(store):
        return store
    found = _ADDRESS.fullmatch(store)
    return "an address" if found is None else f"{found['scheme']}{found['place']}"


def open_huey(store: str | Path) -> Huey:
    """The queue in a store.

    Args:
        store: A file, which SQLite makes; or `redis://HOST:PORT/DB`, `rediss://` for one with TLS.

    Raises:
        StoreError: There is no such store, or it is not reached.
    """
    try:
        from huey import RedisHuey, SqliteHuey
        from huey.registry import Message
        from huey.serializer import Serializer
        from redis import ConnectionPool
    except ImportError as error:
        raise StoreError(
            f"jobs need {error.name}, which is not installed: pip install "
            "'/path/to/the/clone[panel]', pytest-onnxcheck's, which is not on PyPI yet"
        ) from error

    class Written(Serializer):  # type: ignore[misc] # huey has no types
        """Tasks and data as JSON: who can write into the store cannot run code by it."""

        def _serialize(self, data: Any) -> bytes:
            kind = "task" if isinstance(data, Message) else "data"
            return json.dumps({kind: data}).encode()

        def _deserialize(self, data: bytes) -> Any:
            written = json.loads(bytes(data))
            return Message(*written["task"]) if "task" in written else written["data"]

    if isinstance(store, Path) or not _MEANT.fullmatch(store):
        path = Path(store)
        with reached(str(path)):
            path.parent.mkdir(parents=True, exist_ok=True)
            return SqliteHuey(
                _NAME, filename=str(path), serializer=Written(), timeout=_PATIENCE, strict_fifo=True
            )
    address = _ADDRESS.fullmatch(store)
    if address is None:
        raise StoreError(_unreadable(store))
    if address["scheme"] not in ("redis://", "rediss://"):
        raise StoreError(
            f"{without_password(store)}: is no store of jobs: name a file, or redis://HOST:PORT/DB"
        )
    with reached(store):
        pool = ConnectionPool.from_url(
            store, socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
        )
        huey = RedisHuey(_NAME, connection_pool=pool, serializer=Written())
        huey.storage.conn.ping()
        return huey


@contextlib.contextmanager
def reached(store: str) -> Iterator[None]:
    """Says of a store that is not reached which it is, and what to do.

    Raises:
        StoreError: It is not.
    """
    import sqlite3

    from redis.exceptions import RedisError

    shown = without_password(store)
    try:
        yield
    except RedisError as error:
        raise StoreError(
            f"{shown}: Redis does not answer as it should: {one_line(error, 200)}; see that it "
            "runs, and that it can be reached from here"
        ) from error
    except (sqlite3.Error, OSError) as error:
        raise StoreError(
            f"{shown}: the jobs cannot be read or written: {one_line(error, 200)}; see that the "
            "folder can be written to, and that the disk has room"
        ) from error
    except ValueError:
        # what is wrong may be the password, which is not to be in a traceback either
        raise StoreError(_unreadable(store)) from None


def _unreadable(store: str) -> str:
    return (
        f"{without_password(store)}: is no address of a store: write "
        "redis://:PASSWORD@HOST:PORT/DB, and what is no letter or digit of the password as %XX"
    )
