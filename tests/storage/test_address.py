"""Addresses, and what is no address."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.storage import Address, parse
from pytest_onnxcheck.storage.address import checked_key


@pytest.mark.parametrize(
    ("text", "address", "uri"),
    [
        ("s3://bucket", Address("s3", "bucket"), "s3://bucket/a/b"),
        ("s3://my.bucket-1/", Address("s3", "my.bucket-1"), "s3://my.bucket-1/a/b"),
        ("S3://bucket/x/y z/", Address("s3", "bucket", "x/y z"), "s3://bucket/x/y z/a/b"),
        ("file:///var/x%20y/", Address("file", "/var/x y"), "file:///var/x%20y/a/b"),
        ("file://localhost/var", Address("file", "/var"), "file:///var/a/b"),
        ("/var/x", Address("file", "/var/x"), "file:///var/x/a/b"),
    ],
)
def test_an_address_is_read(text, address, uri):
    assert parse(text) == address
    assert address.uri("a/b") == uri
    assert parse(address.uri()) == address


def test_a_path_is_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse("dist/releases") == Address("file", str(Path.cwd() / "dist/releases"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the address is empty: write s3://BUCKET/PREFIX, file:///FOLDER, or a folder"),
        ("gs://bucket/x", r"gs://… is no store that is known here: write s3://"),
        ("s3:bucket/x", r"'s3:bucket/x' names no bucket: write s3://BUCKET/PREFIX"),
        ("s3:///x", r"'s3:///x' names no bucket"),
        (
            "s3://localhost:9000/bucket",
            r"'localhost:9000' is no name of a bucket: .*ENDPOINT_URL_S3",
        ),
        ("s3://b/x", r"'b' is no name of a bucket: 3 to 63 letters"),
        ("s3://bucket/x?versionId=1", r"s3://bucket/x: no \? and no # in an address"),
        ("s3://bucket/a/../b", r"'a/../b' cannot be stored: '..' is no part of a name"),
        ("s3://bucket/a//b", r"'a//b' cannot be stored: '' is no part of a name"),
        (
            "file://var/x",
            r"'file://var/x' names no folder: write file:///FOLDER, with three slashes",
        ),
        ("file:///var/x#1", r"no \? and no # in an address: write %3F and %23"),
    ],
)
def test_what_is_no_address_is_told(text, message):
    with pytest.raises(StorageError, match=message):
        parse(text)


@pytest.mark.parametrize("text", ["s3://key:secret@bucket/x", "https://key:secret@host/x"])
def test_credentials_in_an_address_are_refused_and_not_repeated(text):
    with pytest.raises(StorageError, match="credentials come from the environment") as raised:
        parse(text)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "a/../b", "a\\b", "a\nb", "ü", " a", "a?"]
)
def test_what_cannot_be_a_key(key):
    with pytest.raises(StorageError, match="cannot be stored"):
        checked_key(key)


def test_what_can_be_a_key():
    assert checked_key("a/.b/c d-1_2.0+x@y=z,~") == "a/.b/c d-1_2.0+x@y=z,~"
