"""What every store does: a folder, and a bucket (moto's server stands in for a real one)."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.storage import Content, Store, Stored, open_store


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def at_once(count: int, act: Callable[[int], bool]) -> list[bool]:
    """What several threads get that act at the same time."""
    barrier, found = threading.Barrier(count), [False] * count

    def run(number: int) -> None:
        barrier.wait()
        found[number] = act(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_what_is_stored_is_found(store: Store, tmp_path: Path):
    (tmp_path / "source").write_bytes(b"of a file")
    store.put("a/file.bin", tmp_path / "source", sha256=sha256(b"of a file"))
    store.put("a/bytes", b"of bytes")
    found = store.head("a/file.bin")
    assert isinstance(found, Stored)
    assert (found.key, found.size, found.sha256) == ("a/file.bin", 9, sha256(b"of a file"))
    content = store.read("a/bytes")
    assert isinstance(content, Content)
    assert content.data == b"of bytes"
    store.get("a/file.bin", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"of a file"
    assert store.uri("a/bytes") == f"{store.uri()}/a/bytes"


def test_what_is_not_there_is_none(store: Store, tmp_path: Path):
    assert (store.head("a"), store.read("a"), list(store.listed())) == (None, None, [])
    store.delete("a")
    with pytest.raises(StorageError, match=r"/a"):
        store.get("a", tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_objects_are_listed_by_prefix_and_removed(store: Store):
    for key in ("b/2", "b/1", "ba", "c/d/e"):
        store.put(key, key.encode())
    assert [(one.key, one.size) for one in store.listed()] == [
        *(("b/1", 3), ("b/2", 3), ("ba", 2), ("c/d/e", 5))
    ]
    assert [one.key for one in store.listed("b")] == ["b/1", "b/2", "ba"]
    assert [one.key for one in store.listed("b/")] == ["b/1", "b/2"]
    assert [one.key for one in store.listed("x/")] == []
    store.delete("b/1")
    assert [one.key for one in store.listed("b/")] == ["b/2"]


def test_the_same_content_is_left_as_it_is_and_another_replaces_it(store: Store):
    store.put("a", b"1", sha256=sha256(b"1"))
    first = store.head("a")
    store.put("a", b"1", sha256=sha256(b"1"))
    assert store.head("a") == first
    store.put("a", b"2")
    assert store.head("a").sha256 == sha256(b"2")


def test_what_changed_while_it_was_stored_is_refused(store: Store, tmp_path: Path):
    (tmp_path / "source").write_bytes(b"another")
    with pytest.raises(StorageError, match=r"/a: the source has changed while it was st"):
        store.put("a", tmp_path / "source", sha256=sha256(b"one"))
    assert store.read("a") is None


def test_only_the_first_is_put_where_nothing_is(store: Store):
    assert store.put_if_absent("a", b"1")
    assert not store.put_if_absent("a", b"2")
    assert store.put_if_absent("a", b"1"), "what is there is ours: an answer may have been lost"
    assert store.read("a").data == b"1"


def test_one_of_eight_is_first(address: str):
    stores = [open_store(address) for _ in range(8)]
    won = at_once(8, lambda number: stores[number].put_if_absent("race", b"%d" % number))
    assert won.count(True) == 1
    assert stores[0].read("race").data == b"%d" % won.index(True)


def test_only_what_was_read_is_replaced(store: Store):
    store.put_if_absent("a", b"1")
    etag = store.read("a").etag
    assert store.replace("a", b"2", etag)
    assert not store.replace("a", b"3", etag)
    assert store.replace("a", b"2", etag), "what is there is ours: an answer may have been lost"
    assert store.read("a").data == b"2"
    store.delete("a")
    assert not store.replace("a", b"3", etag)


def test_an_object_that_is_not_what_it_should_be_is_not_given_out(store: Store, tmp_path: Path):
    store.put("a", b"1")
    (tmp_path / "target").write_bytes(b"before")
    with pytest.raises(
        StorageError, match=r"/a was changed: it has SHA-256 6b86b273ff34…, and sho"
    ):
        store.get("a", tmp_path / "target", sha256=sha256(b"2"))
    assert (tmp_path / "target").read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["target"]


def test_stores_that_keep_what_is_there_are_not_refused(store: Store):
    store.refuse_silent_overwriting()
    store.refuse_silent_overwriting()
    assert [one.key for one in store.listed()] == [".onnxcheck-probe"]


def test_a_store_that_overwrites_silently_is_refused(store: Store, monkeypatch):
    def overwrite(self, key: str, content: bytes) -> bool:
        self.put(key, content)
        return True

    monkeypatch.setattr(type(store), "put_if_absent", overwrite)
    with pytest.raises(StorageError, match=r"overwrites what is there although it is told not to"):
        store.refuse_silent_overwriting()
