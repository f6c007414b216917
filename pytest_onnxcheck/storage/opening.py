"""Opens the store at an address."""

from __future__ import annotations

from pathlib import Path

from pytest_onnxcheck.storage.address import Address, parse
from pytest_onnxcheck.storage.local import LocalStore
from pytest_onnxcheck.storage.store import Store

__all__ = ["open_store"]


def open_store(address: str | Path | Address) -> Store:
    """The store at `s3://bucket/prefix`, `file:///folder` or a path; nothing is asked of it yet.

    Endpoint and credentials of a bucket come from where AWS's tools look for them:
    `AWS_ENDPOINT_URL_S3`, `AWS_ACCESS_KEY_ID`, `~/.aws/config` and the like.

    Raises:
        StorageError: There is no such address, or what it takes is not installed.
    """
    where = address if isinstance(address, Address) else parse(str(address))
    if where.scheme == "file":
        return LocalStore(where)
    from pytest_onnxcheck.storage.s3 import S3Store

    return S3Store(where)
