"""A bucket of an S3 server as a store, through boto3."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_onnxcheck.errors import ChangedError, StorageError
from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.storage.address import Address, checked_key
from pytest_onnxcheck.storage.failures import code_of, told
from pytest_onnxcheck.storage.multipart import PART, upload
from pytest_onnxcheck.storage.probe import probe
from pytest_onnxcheck.storage.store import Content, Stored

__all__ = ["S3Store"]

#: the header of ours that holds an object's hash
_SHA256 = "sha256"
#: what servers answer where a condition does not hold, or another writer was at it
_REFUSED = frozenset({"PreconditionFailed", "412"})
_CONFLICT = frozenset({"ConditionalRequestConflict", "OperationAborted", "409"})
_ABSENT = frozenset({"NoSuchKey", "404"})
#: of a condition that the server does not know
_UNKNOWN = frozenset({"NotImplemented", "501"})
_TRIES = 5
#: how long a connection may take, and an answer; boto3 then tries again (`AWS_MAX_ATTEMPTS`)
CONNECT_SECONDS, ANSWER_SECONDS = 10, 60


class S3Store:
    """Objects in a bucket, below a prefix.

    Endpoint, credentials, region and retries are boto3's, from its standard places. Every request
    that writes has the SHA-256 of what it sends: servers that know it refuse what arrived changed.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._bucket = address.root
        self._client: Any = None
        _check_boto3()  # which what it raises is told by, too
        with self._told():
            self._client = _client()

    def uri(self, key: str = "") -> str:
        """See `Store.uri`."""
        return self._address.uri(key)

    def put(
        self,
        key: str,
        source: Path | bytes,
        metadata: Mapping[str, str] | None = None,
        sha256: str | None = None,
    ) -> None:
        """See `Store.put`."""
        if sha256 is None:
            sha256 = _sha256(source)
        headers = {**(metadata or {}), _SHA256: sha256}
        there = self.head(key)
        if there is not None and headers.items() <= there.metadata.items():
            return
        with self._told(key):
            size = len(source) if isinstance(source, bytes) else source.stat().st_size
            if isinstance(source, bytes) or size <= PART:
                data = source if isinstance(source, bytes) else source.read_bytes()
                if _sha256(data) != sha256:
                    raise StorageError(
                        f"{self.uri(key)}: the source has changed while it was stored: try again"
                    )
                self._put(key, data, headers)
                return
            upload(self._client, self._object(key), source, headers, sha256)
        there = self.head(key)
        if there is None or there.size != size or not headers.items() <= there.metadata.items():
            raise StorageError(
                f"{self.uri(key)} is not what was sent: another process stores it too: try again"
            )

    def put_if_absent(self, key: str, content: bytes) -> bool:
        """See `Store.put_if_absent`."""
        return self._put_on_condition(key, content, IfNoneMatch="*")

    def replace(self, key: str, content: bytes, etag: str) -> bool:
        """See `Store.replace`."""
        if self._put_on_condition(key, content, IfMatch=etag):
            return True
        there = self.read(key)
        if there is None or there.etag != etag:
            return False
        # Ceph compares without the quotes that belong to an ETag, and refuses what has them
        return self._put_on_condition(key, content, IfMatch=etag.strip('"'))

    def _put_on_condition(self, key: str, content: bytes, **condition: Any) -> bool:
        """Whether it was stored; False where something else is there, or nothing to replace."""
        from botocore.exceptions import ClientError

        replacing = "IfMatch" in condition
        for _ in range(_TRIES):
            with self._told(key):
                try:
                    self._put(key, content, **condition)
                    return True
                except ClientError as error:
                    code = code_of(error)
                    if replacing and code in _UNKNOWN:
                        self._put(key, content)
                        return True
                    if code not in _REFUSED | _CONFLICT | (_ABSENT if replacing else set()):
                        raise
            # it may have been this very request that stored it, sent again after a lost answer
            there = self.read(key)
            if there is not None and there.data == content:
                return True
            if code in _REFUSED | _ABSENT and (replacing or there is not None):
                return False
        raise StorageError(f"{self.uri(key)}: others write it at the same time: try again")

    def get(self, key: str, to: Path, sha256: str | None = None) -> None:
        """See `Store.get`."""
        there = self.head(key)
        if there is None:
            raise StorageError(f"{self.uri(key)} is not there")
        temporary = to.with_name(f".{to.name}.{secrets.token_hex(4)}.part")
        try:
            with self._told(key):
                self._client.download_file(*self._object(key).values(), str(temporary))
                found, expected = file_sha256(temporary), sha256 or there.sha256
                if expected not in (None, found):
                    raise ChangedError(
                        f"{self.uri(key)} was changed: it has SHA-256 {found[:12]}…, and should "
                        f"have {str(expected)[:12]}…"
                    )
                temporary.replace(to)
        finally:
            temporary.unlink(missing_ok=True)

    def read(self, key: str) -> Content | None:
        """See `Store.read`."""
        from botocore.exceptions import BotoCoreError, ClientError

        for attempt in range(_TRIES):
            with self._told(key):
                try:
                    answer = self._client.get_object(**self._object(key))
                except ClientError as error:
                    if code_of(error) in _ABSENT:
                        return None
                    raise
                try:
                    return Content(answer["Body"].read(), answer["ETag"])
                except BotoCoreError:  # cut while it was read: boto3 repeats requests, not this
                    if attempt + 1 == _TRIES:
                        raise
        raise AssertionError("the last try returns or raises")

    def head(self, key: str) -> Stored | None:
        """See `Store.head`."""
        from botocore.exceptions import ClientError

        with self._told(key):
            try:
                answer = self._client.head_object(**self._object(key))
            except ClientError as error:
                if code_of(error) not in _ABSENT:
                    raise
                self._client.head_bucket(Bucket=self._bucket)  # raises where there is no bucket
                return None
        metadata = {str(name).lower(): str(text) for name, text in answer["Metadata"].items()}
        return Stored(
            key,
            int(answer["ContentLength"]),
            answer["LastModified"].timestamp(),
            metadata.get(_SHA256),
            metadata,
        )

    def listed(self, prefix: str = "") -> Iterator[Stored]:
        """See `Store.listed`."""
        base = f"{self._address.prefix}/" if self._address.prefix else ""
        with self._told(prefix):
            pages = self._client.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=base + prefix):
                for found in page.get("Contents", ()):
                    key = str(found["Key"]).removeprefix(base)
                    yield Stored(key, int(found["Size"]), found["LastModified"].timestamp())

    def delete(self, key: str) -> None:
        """See `Store.delete`."""
        with self._told(key):
            self._client.delete_object(**self._object(key))

    def refuse_silent_overwriting(self) -> None:
        """See `Store.refuse_silent_overwriting`."""
        probe(self)

    def _put(
        self, key: str, data: bytes, headers: Mapping[str, str] | None = None, **condition: Any
    ) -> None:
        digest = hashlib.sha256(data)
        self._client.put_object(
            **self._object(key),
            Body=data,
            ChecksumSHA256=base64.b64encode(digest.digest()).decode(),
            Metadata=dict(headers or {_SHA256: digest.hexdigest()}),
            **condition,
        )

    def _object(self, key: str) -> dict[str, str]:
        parts = filter(None, (self._address.prefix, checked_key(key)))
        return {"Bucket": self._bucket, "Key": "/".join(parts)}

    @contextlib.contextmanager
    def _told(self, key: str = "") -> Iterator[None]:
        with told(self.uri(key), self._bucket, self._client):
            yield


def _check_boto3() -> None:
    try:
        import boto3  # noqa: F401
    except ImportError as error:
        raise StorageError("s3:// needs boto3: pip install 'pytest-onnxcheck[s3]'") from error


def _client() -> Any:
    from boto3.session import Session
    from botocore.config import Config

    patience = Config(connect_timeout=CONNECT_SECONDS, read_timeout=ANSWER_SECONDS)
    return Session().client("s3", config=patience)


def _sha256(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return file_sha256(content)
