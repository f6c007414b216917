"""A bucket as a store: parts, and what goes wrong. moto's server stands in for a real one."""

from __future__ import annotations

import hashlib
import secrets
import sys
from pathlib import Path

import pytest
import s3_server

from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.storage import Store, multipart, open_store

MIB = 1 << 20


@pytest.fixture
def store(bucket: str) -> Store:
    return open_store(f"s3://{bucket}/some/prefix")


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A file of three parts."""
    path = tmp_path / "large"
    path.write_bytes(secrets.token_bytes(2 * multipart.PART + MIB))
    return path


def uploads(server: str, bucket: str) -> list[str]:
    found = s3_server.client(server).list_multipart_uploads(Bucket=bucket)
    return [upload["UploadId"] for upload in found.get("Uploads", ())]


def test_headers_go_with_an_object(store: Store):
    store.put("a", b"1", {"opset": "17"})
    digest = hashlib.sha256(b"1").hexdigest()
    assert store.head("a").metadata == {"opset": "17", "sha256": digest}
    store.put("a", b"1", {"opset": "18"})
    assert store.head("a").metadata["opset"] == "18"


def test_a_large_file_goes_in_parts_and_comes_back(store: Store, server, bucket, large, tmp_path):
    store.put("large", large, {"opset": "17"})
    found = store.head("large")
    assert (found.size, found.metadata["opset"]) == (large.stat().st_size, "17")
    etag = s3_server.client(server).head_object(Bucket=bucket, Key="some/prefix/large")["ETag"]
    assert etag.endswith('-3"')
    store.get("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == large.read_bytes()
    assert uploads(server, bucket) == []


@pytest.fixture
def cut(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The third part is cut off once; the numbers of all parts that were sent."""
    client, sent = store._client, []
    send = client.upload_part

    def upload_part(**arguments):
        from botocore.exceptions import ConnectionClosedError

        sent.append(arguments["PartNumber"])
        if sent == [1, 2, 3]:
            raise ConnectionClosedError(endpoint_url="http://nowhere")
        return send(**arguments)

    monkeypatch.setattr(client, "upload_part", upload_part)
    return sent


def test_an_upload_that_was_cut_is_gone_on_with(store: Store, server, bucket, large, cut):
    with pytest.raises(StorageError, match=r"was cut: try again; what is there is not sent again"):
        store.put("large", large)
    assert store.head("large") is None
    assert len(uploads(server, bucket)) == 1
    store.put("large", large)
    assert cut == [1, 2, 3, 3]
    assert store.head("large").size == large.stat().st_size
    assert uploads(server, bucket) == []


def test_parts_of_another_content_are_sent_again(store: Store, server, bucket, large, cut):
    with pytest.raises(StorageError):
        store.put("large", large)
    content = large.read_bytes()
    large.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    store.put("large", large)
    assert cut == [1, 2, 3, 1, 3, *(1, 2, 3)], "then anew: the upload had the hash of the other"
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    assert store.head("large").sha256 == digest
    assert uploads(server, bucket) == []


def test_an_upload_that_another_ends_meanwhile(store: Store, server, bucket, large, monkeypatch):
    from botocore.exceptions import ClientError

    client, other = store._client, s3_server.client(server)
    send = client.upload_part

    def abort_first(**arguments):
        monkeypatch.setattr(client, "upload_part", send)
        named = {key: arguments[key] for key in ("Bucket", "Key", "UploadId")}
        other.abort_multipart_upload(**named)
        raise ClientError({"Error": {"Code": "NoSuchUpload"}}, "UploadPart")  # moto says 500

    monkeypatch.setattr(client, "upload_part", abort_first)
    store.put("large", large)
    assert store.head("large").size == large.stat().st_size


def test_what_another_aborts_first_is_no_error(store, server, bucket, large, cut, monkeypatch):
    from botocore.exceptions import ClientError

    with pytest.raises(StorageError):
        store.put("large", large)
    s3_server.client(server).create_multipart_upload(Bucket=bucket, Key="some/prefix/large")
    abort = store._client.abort_multipart_upload

    def abort_twice(**arguments):
        abort(**arguments)
        raise ClientError({"Error": {"Code": "NoSuchUpload"}}, "AbortMultipartUpload")

    monkeypatch.setattr(store._client, "abort_multipart_upload", abort_twice)
    store.put("large", large)
    assert uploads(server, bucket) == []


def test_a_large_file_that_changed_meanwhile_is_refused(store: Store, server, bucket, large):
    with pytest.raises(
        StorageError, match=r"large: the source has changed while it was stored: try again"
    ):
        store.put("large", large, sha256="0" * 64)
    assert store.head("large") is None
    assert uploads(server, bucket) == []


def test_an_etag_is_compared_without_quotes_too(store: Store, monkeypatch):
    """As Ceph does, which refuses one that has them."""
    store.put("a", b"1")
    client = store._client
    put = client.put_object

    def put_object(IfMatch, **arguments):  # noqa: N803 - boto3's names
        quoted = '"' in IfMatch
        return put(IfMatch='"another"' if quoted else f'"{IfMatch}"', **arguments)

    monkeypatch.setattr(client, "put_object", put_object)
    etag = store.read("a").etag
    assert store.replace("a", b"2", etag)
    assert not store.replace("a", b"3", etag)
    assert store.read("a").data == b"2"


@pytest.mark.parametrize("conflicts", [1, 99])
def test_a_conflict_with_another_writer_is_tried_again(store: Store, monkeypatch, conflicts):
    from botocore.exceptions import ClientError

    put, tries = store._client.put_object, []

    def put_object(**arguments):
        tries.append(arguments)
        if len(tries) <= conflicts:
            raise ClientError({"Error": {"Code": "ConditionalRequestConflict"}}, "PutObject")
        return put(**arguments)

    monkeypatch.setattr(store._client, "put_object", put_object)
    if conflicts == 1:
        assert store.put_if_absent("a", b"1")
        assert store.read("a").data == b"1"
    else:
        with pytest.raises(StorageError, match=r"/a: others write it at the same time: try again"):
            store.put_if_absent("a", b"1")


def test_a_condition_that_a_server_does_not_know(store: Store, monkeypatch):
    """Then the pointer is stored without it; a release is not."""
    from botocore.exceptions import ClientError

    store.put("a", b"1")
    put = store._client.put_object

    def put_object(**arguments):
        if {"IfMatch", "IfNoneMatch"} & arguments.keys():
            raise ClientError({"Error": {"Code": "NotImplemented"}}, "PutObject")
        return put(**arguments)

    monkeypatch.setattr(store._client, "put_object", put_object)
    assert store.replace("a", b"2", store.read("a").etag)
    assert store.read("a").data == b"2"
    with pytest.raises(StorageError, match=r"answered NotImplemented"):
        store.put_if_absent("b", b"1")


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("InvalidAccessKeyId", r"does not know the access key: check AWS_ACCESS_KEY_ID"),
        ("SignatureDoesNotMatch", r"refuses the secret key: check AWS_SECRET_ACCESS_KEY"),
        (
            "RequestTimeTooSkewed",
            r"clock and that of http://127.* are too far apart: set the clock",
        ),
        ("AccessDenied", r"does not allow it to these credentials: ask for the right"),
        ("PermanentRedirect", r"the bucket is in another region: set AWS_REGION"),
        ("QuotaExceeded", r"the quota is used up: make room"),
        ("Odd", r"http://127.* answered Odd: strange"),
    ],
)
def test_what_a_server_answers_is_told(store: Store, monkeypatch, code, message):
    from botocore.exceptions import ClientError

    def refuse(**arguments):
        text = f"strange {s3_server.SECRET_KEY} Signature=of-it"
        raise ClientError({"Error": {"Code": code, "Message": text}}, "PutObject")

    monkeypatch.setattr(store._client, "put_object", refuse)
    with pytest.raises(StorageError, match=message) as raised:
        store.put_if_absent("a", b"1")
    assert str(raised.value).startswith(f"{store.uri('a')}: ")
    assert s3_server.SECRET_KEY not in str(raised.value)
    assert "of-it" not in str(raised.value)


def test_a_bucket_that_is_not_there(server, bucket, monkeypatch):
    store = open_store("s3://no-such-bucket/x")
    message = (
        r"s3://no-such-bucket/x/a: there is no such bucket at http://127.*: create it \(aws s3 mb"
    )
    for act in (
        lambda: store.put("a", b""),
        lambda: store.put_if_absent("a", b""),
        lambda: store.read("a"),
        lambda: store.head("a"),
        lambda: list(store.listed("a")),
    ):
        with pytest.raises(StorageError, match=message):
            act()


def test_a_server_that_is_not_there(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://name:password@127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(
        StorageError, match=r"http://127.0.0.1:1 cannot be reached: check AWS_ENDPO"
    ) as raised:
        open_store(f"s3://{bucket}").read("a")
    assert "password" not in str(raised.value)


def test_without_credentials(bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(
        StorageError, match=r"there are no credentials for http://127.*: set AWS_ACC"
    ):
        open_store(f"s3://{bucket}").read("a")
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(StorageError, match=r"no such profile in ~/.aws/config: check AWS_PROFILE"):
        open_store(f"s3://{bucket}")


def test_without_boto3(monkeypatch):
    for name in [*sys.modules, "boto3", "boto3.exceptions", "boto3.session", "botocore"]:
        if name.partition(".")[0] in ("boto3", "botocore"):
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        StorageError, match=r"s3:// needs boto3: pip install 'pytest-onnxcheck\[s3\]'"
    ):
        open_store("s3://bucket")
