"""A remote in a bucket; moto's server stands in for a real one."""

from __future__ import annotations

import pytest
import s3_server
from caches import PLACE, Maker, key

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.cache.stored import StoredBuilds
from pytest_onnxcheck.storage import parse


@pytest.fixture
def machine(tmp_path, bucket):
    return lambda name: BuildCache(tmp_path / name, remote=parse(f"s3://{bucket}/cache"))


def largest(server, bucket):
    """The key in the bucket of the largest object."""
    found = s3_server.client(server).list_objects_v2(Bucket=bucket)["Contents"]
    return max(found, key=lambda each: each["Size"])["Key"]


def test_what_one_machine_builds_another_fetches(machine, bucket):
    make = Maker(size=20_000)
    caches = [machine("one"), machine("other")]
    assert [make.get(cache).source for cache in caches] == ["built", "remote"]
    assert make.count == 1
    assert [cache.told for cache in caches] == [[], []]


@pytest.mark.parametrize("size", ["as it was", "another"])
def test_an_object_that_was_altered_is_mended(machine, server, bucket, size):
    """Its header still says the old hash, which a store may believe."""
    make = Maker(size=20_000)
    make.get(machine("one"))
    client, name = s3_server.client(server), largest(server, bucket)
    there = client.get_object(Bucket=bucket, Key=name)
    content = b"x" * (there["ContentLength"] if size == "as it was" else 3)
    client.put_object(Bucket=bucket, Key=name, Body=content, Metadata=there["Metadata"])
    cache = machine("other")
    assert make.get(cache).source == "built"
    assert "model.onnx has " in cache.told[0]
    third = machine("third")
    assert (make.get(third).source, third.told) == ("remote", [])


def test_it_is_listed_verified_and_cleared(machine, bucket):
    Maker().get(machine("one"))
    builds = StoredBuilds(parse(f"s3://{bucket}/cache"))
    assert [kept.name for kept in builds.entries()] == [f"{PLACE}/{key('one')[:16]}"]
    assert builds.verify() == {}
    builds.prune(0)
    assert builds.entries() == []


def test_a_server_that_is_down_is_told_once_without_secrets(machine, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    cache = machine("one")
    assert [Maker(name).get(cache).source for name in ("one", "two")] == ["built", "built"]
    (text,) = cache.told
    assert "http://127.0.0.1:1 cannot be reached: check AWS_ENDPOINT_URL_S3" in text
    assert text.endswith(". Artefacts are built here; it is not asked again in this run")
    assert s3_server.SECRET_KEY not in text


def test_credentials_that_may_not_read_are_told(machine, bucket, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    cache = machine("one")
    assert Maker().get(cache).source == "built"
    assert "there are no credentials for " in cache.told[0]
