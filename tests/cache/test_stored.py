"""What is in a remote: listed, verified and pruned, with the files that no entry is left of."""

import os

import pytest
from caches import PLACE, Maker, key

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.cache.stored import StoredBuilds
from pytest_onnxcheck.storage import parse

#: bytes of the largest entry's files
SIZE = 1010


@pytest.fixture
def store(tmp_path):
    """A store with three entries, `one` stored first; they share one of their files."""
    root = tmp_path / "store"
    cache = BuildCache(tmp_path / "own", remote=parse(root.as_uri()))
    for age, name in enumerate(["three", "two", "one"]):
        Maker(name).get(cache)
        when = 1_700_000_000 - age * 100
        os.utime(root / "entries" / f"{key(name)}.json", (when, when))
    assert cache.told == []
    return root


def builds(store):
    return StoredBuilds(parse(store.as_uri()))


def names(store):
    known = {f"{PLACE}/{key(name)[:16]}": name for name in ("one", "two", "three")}
    return [known[kept.name] for kept in builds(store).entries()]


def test_entries_are_listed_as_they_were_stored(store):
    assert names(store) == ["one", "two", "three"]
    assert len(list((store / "objects").iterdir())) == 4


def test_pruning_leaves_the_files_that_other_entries_have(store):
    removed = builds(store).prune(2 * SIZE)
    assert [kept.name for kept in removed] == [f"{PLACE}/{key('one')[:16]}"]
    assert names(store) == ["two", "three"]
    assert len(list((store / "objects").iterdir())) == 3
    assert builds(store).verify() == {}


def test_pruning_removes_what_is_damaged_first(store):
    (store / "entries" / f"{key('three')}.json").write_text("{}")
    assert [kept.name for kept in builds(store).prune(9 * SIZE)] == [key("three")]
    assert names(store) == ["one", "two"]


def test_files_without_an_entry_go_when_no_upload_can_be_at_it(store):
    left, new = store / "objects" / ("0" * 64), store / "objects" / ("1" * 64)
    for path in (left, new):
        path.write_bytes(b"x")
    os.utime(left, (1_700_000_000, 1_700_000_000))
    builds(store).prune(9 * SIZE)
    assert (left.exists(), new.exists()) == (False, True)


def test_clearing_leaves_what_is_not_ours(store):
    (store / "objects" / "readme.txt").write_text("not ours")
    (store / "release.json").write_text("not ours")
    assert len(builds(store).prune(0)) == 3
    assert [path.name for path in sorted(store.rglob("*")) if path.is_file()] == [
        "readme.txt",
        "release.json",
    ]


def test_verifying_fetches_every_byte(store):
    assert builds(store).verify() == {}
    path = max((store / "objects").iterdir(), key=lambda path: path.read_bytes().startswith(b"two"))
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    (store / "entries" / f"{key('one')}.json").write_text("{}")
    assert builds(store).verify() == {
        key("one"): "build.json is not what was written",
        f"{PLACE}/{key('two')[:16]}": "model.onnx has other contents than were built",
    }
