"""A large file, sent in parts; one that was cut is taken up where it stopped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.storage.failures import code_of

__all__ = ["PART", "upload"]

#: bytes of a part, and of the largest file that goes whole
PART = 16 << 20
#: how many parts S3 takes
_MOST = 10_000
_GONE = frozenset({"NoSuchUpload", "404"})
_FORBIDDEN = frozenset({"AccessDenied", "403", "NotImplemented", "501"})


def upload(
    client: Any, where: Mapping[str, str], source: Path, headers: Mapping[str, str], sha256: str
) -> None:
    """Sends a file in parts.

    An unfinished upload of the same key is gone on with: parts that are there with the bytes they
    should have are not sent again. Another process may do the same at once; whoever completes
    first ends the upload, and the other finds the object. What is left of others is aborted.

    Args:
        client: boto3's client.
        where: `Bucket` and `Key`.
        source: The file.
        headers: The object's metadata.
        sha256: Hex SHA-256 of the file; another content is refused.
    """
    from botocore.exceptions import ClientError

    for known in (*_unfinished(client, where)[:1], None, None):
        try:
            _send(client, where, known or _start(client, where, headers), source, sha256)
        except ClientError as error:
            if code_of(error) not in _GONE:
                raise
        if _is_there(client, where, headers):
            break  # else it was begun with other headers, or another process gave it up
    for other in _unfinished(client, where):
        _abort(client, where, other)


def _start(client: Any, where: Mapping[str, str], headers: Mapping[str, str]) -> str:
    started = client.create_multipart_upload(
        **where, Metadata=dict(headers), ChecksumAlgorithm="SHA256"
    )
    return str(started["UploadId"])


def _send(client: Any, where: Mapping[str, str], known: str, source: Path, sha256: str) -> None:
    there = _parts(client, where, known)
    whole = hashlib.sha256()
    parts = []
    for number, data in enumerate(_pieces(source), 1):
        whole.update(data)
        digest = base64.b64encode(hashlib.sha256(data).digest()).decode()
        part = there.get(number)
        if part is None or not _same(part, data, digest):
            part = client.upload_part(
                **where, UploadId=known, PartNumber=number, Body=data, ChecksumSHA256=digest
            )
        named = {key: part[key] for key in ("ETag", "ChecksumSHA256") if part.get(key)}
        parts.append({"PartNumber": number, **named})
    if whole.hexdigest() != sha256:
        _abort(client, where, known)
        raise StorageError(f"{source}: the source has changed while it was stored: try again")
    client.complete_multipart_upload(**where, UploadId=known, MultipartUpload={"Parts": parts})


def _abort(client: Any, where: Mapping[str, str], known: str) -> None:
    from botocore.exceptions import ClientError

    try:
        client.abort_multipart_upload(**where, UploadId=known)
    except ClientError as error:
        if code_of(error) not in _GONE:  # another process aborted it
            raise


def _pieces(source: Path) -> Iterator[bytes]:
    size = max(PART, -(-source.stat().st_size // _MOST))
    with source.open("rb") as file:
        while data := file.read(size):
            yield data


def _same(part: Mapping[str, Any], data: bytes, digest: str) -> bool:
    """Whether a part on the server has these bytes; one that cannot be told is sent again."""
    if part.get("ChecksumSHA256"):
        return bool(part["ChecksumSHA256"] == digest)
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return str(part["ETag"]).strip('"') == md5


def _parts(client: Any, where: Mapping[str, str], known: str) -> dict[int, Mapping[str, Any]]:
    pages = client.get_paginator("list_parts").paginate(**where, UploadId=known)
    return {int(part["PartNumber"]): part for page in pages for part in page.get("Parts", ())}


def _unfinished(client: Any, where: Mapping[str, str]) -> list[str]:
    """The uploads of a key that were begun and neither completed nor aborted."""
    from botocore.exceptions import ClientError

    pages = client.get_paginator("list_multipart_uploads")
    try:
        found = [
            upload
            for page in pages.paginate(Bucket=where["Bucket"], Prefix=where["Key"])
            for upload in page.get("Uploads", ())
        ]
    except ClientError as error:
        if code_of(error) in _FORBIDDEN:  # then every upload begins anew
            return []
        raise
    return [str(upload["UploadId"]) for upload in found if upload["Key"] == where["Key"]]


def _is_there(client: Any, where: Mapping[str, str], headers: Mapping[str, str]) -> bool:
    from botocore.exceptions import ClientError

    try:
        found = client.head_object(**where)
    except ClientError as error:
        if code_of(error) in _GONE | {"NoSuchKey"}:
            return False
        raise
    there = {str(name).lower(): text for name, text in found["Metadata"].items()}
    return headers.items() <= there.items()
