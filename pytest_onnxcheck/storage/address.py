"""Addresses of stores, and the keys inside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pytest_onnxcheck.errors import StorageError

__all__ = ["Address", "checked_key", "parse"]

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,61}[A-Za-z0-9]")
#: what a part of a key may hold: the same in a URI, on every server, and in a folder
_PART = re.compile(r"[A-Za-z0-9._+@=,~ -]+")
_WRITE = "write s3://BUCKET/PREFIX, file:///FOLDER, or a folder"


@dataclass(frozen=True)
class Address:
    """Where a store is.

    Attributes:
        scheme: `s3`, or `file` for a folder.
        root: The bucket, or the folder's absolute path.
        prefix: What all keys in a bucket begin with, without a slash at its ends; empty for a
            folder.
    """

    scheme: Literal["file", "s3"]
    root: str
    prefix: str = ""

    def uri(self, key: str = "") -> str:
        """The address of an object, or of the store itself."""
        if self.scheme == "file":
            return (Path(self.root) / key).as_uri()
        return "s3://" + "/".join(filter(None, (self.root, self.prefix, key)))


def parse(text: str) -> Address:
    """Reads `s3://bucket/prefix`, `file:///folder`, or a path.

    Raises:
        StorageError: It is none of them.
    """
    scheme, colon, rest = text.partition(":")
    if colon and "@" in rest.partition("?")[0].removeprefix("//").partition("/")[0]:
        raise StorageError(
            f"an address of {scheme}: has no @ before the first slash: credentials come from the "
            "environment or ~/.aws/credentials, never from an address"
        )
    if colon and scheme.lower() == "s3":
        return _bucket(text)
    if colon and scheme.lower() == "file":
        return _folder(text)
    if "://" in text:
        raise StorageError(f"{scheme}://… is no store that is known here: {_WRITE}")
    if not text.strip():
        raise StorageError(f"the address is empty: {_WRITE}")
    return Address("file", str(Path(text).absolute()))


def _bucket(text: str) -> Address:
    split = urlsplit(text)
    if not split.netloc:
        raise StorageError(f"{text!r} names no bucket: write s3://BUCKET/PREFIX")
    if split.query or split.fragment:
        raise StorageError(f"s3://{split.netloc}{split.path}: no ? and no # in an address")
    if not _BUCKET.fullmatch(split.netloc):
        raise StorageError(
            f"{split.netloc!r} is no name of a bucket: 3 to 63 letters, digits, '.', '-' and '_'. "
            "An endpoint does not belong here: set AWS_ENDPOINT_URL_S3"
        )
    prefix = split.path.strip("/")
    return Address("s3", split.netloc, checked_key(prefix) if prefix else "")


def _folder(text: str) -> Address:
    split = urlsplit(text)
    if not text.lower().startswith("file:///") and split.netloc != "localhost":
        raise StorageError(f"{text!r} names no folder: write file:///FOLDER, with three slashes")
    if split.query or split.fragment:
        raise StorageError(f"{text!r}: no ? and no # in an address: write %3F and %23")
    return Address("file", str(Path(url2pathname(split.path))))


def checked_key(key: str) -> str:
    """A key, if it may be one: parts between slashes, of letters, digits and `._+@=,~ -`.

    Raises:
        StorageError: It may not: it would lead elsewhere in a folder, or be read otherwise by some
            server.
    """
    for part in key.split("/"):
        if part in ("", ".", "..") or not _PART.fullmatch(part) or part != part.strip():
            raise StorageError(
                f"{key!r} cannot be stored: {part!r} is no part of a name (letters, digits and "
                "._+@=,~- and spaces inside, not '.' or '..')"
            )
    return key
