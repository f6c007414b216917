"""Whether a store keeps what is there when it is told to."""

from __future__ import annotations

import secrets

from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.storage.store import Store

__all__ = ["probe"]

_KEY = ".onnxcheck-probe"


def probe(store: Store) -> None:
    """Stores two contents under one key, each only where nothing is: the second must be refused.

    The object stays: the next probe finds it there, and none has to be removed by one who was
    killed.

    Raises:
        StorageError: The second was taken, or is there.
    """
    store.put_if_absent(_KEY, secrets.token_hex(8).encode())
    second = secrets.token_hex(8).encode()
    taken = store.put_if_absent(_KEY, second)
    there = store.read(_KEY)
    if taken or there is None or there.data == second:
        raise StorageError(
            f"{store.uri()}: this server overwrites what is there although it is told not to "
            "(If-None-Match: * has no effect), so that two publishers could destroy each other's "
            "releases. Use a server with conditional writes (AWS S3, Ceph, MinIO), or a folder"
        )
