"""A folder of entries: what is in it, what is damaged, and what is removed when it is too large."""

import multiprocessing
import os

import pytest
from caches import Maker, home, key, use_until_told

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.cache.folder import Folder

#: bytes of an entry of `Maker`, its description included
SIZE = 1500


@pytest.fixture
def root(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def filled(root):
    """Three entries of ended processes, `one` the one that was not used for longest."""
    for age, name in enumerate(["three", "two", "one"]):
        Maker(name).get(BuildCache(root))
        when = 1_700_000_000 - age * 100
        os.utime(home(root, name) / "build.json", (when, when))
    return root


def names(root):
    known = {key(name)[:16]: name for name in ("one", "two", "three", "held", "new")}
    return [known[kept.name.rpartition("/")[2]] for kept in Folder(root).entries()]


def test_entries_are_listed_the_longest_unused_first(filled):
    (filled / "repro" / "net" / "run-cpu").mkdir(parents=True)
    (filled / "net" / "notes.txt").write_text("not ours")
    assert names(filled) == ["one", "two", "three"]
    kept = Folder(filled).entries()[0]
    assert kept.name == f"net/dynamo-op20-fp32/{key('one')[:16]}"
    assert kept.used == 1_700_000_000 - 200
    assert kept.size_bytes == sum(path.stat().st_size for path in home(filled).iterdir())
    assert kept.build.seconds == 1.5


def test_no_folder_has_no_entries(root):
    assert Folder(root).entries() == []
    assert Folder(root).verify() == {}
    assert Folder(root).prune(0) == []
    assert not root.exists()


def test_using_an_entry_makes_it_the_last_to_go(filled):
    Maker("one").get(BuildCache(filled))
    assert names(filled) == ["two", "three", "one"]


def test_pruning_removes_what_was_not_used_for_longest(filled):
    removed = Folder(filled).prune(2 * SIZE)
    assert [kept.name.rpartition("/")[2] for kept in removed] == [key("one")[:16]]
    assert names(filled) == ["two", "three"]
    assert Folder(filled).prune(2 * SIZE) == []


def test_pruning_removes_what_is_damaged_first(filled):
    (home(filled, "three") / "build.json").write_text("{}")
    removed = Folder(filled).prune(100 * SIZE)
    assert [kept.name.rpartition("/")[2] for kept in removed] == [key("three")[:16]]
    assert names(filled) == ["one", "two"]


def test_pruning_to_nothing_leaves_what_is_not_ours(filled):
    (filled / "repro").mkdir()
    (filled / "net" / "notes.txt").write_text("not ours")
    Folder(filled).prune(0)
    assert names(filled) == []
    assert (filled / "repro").is_dir()
    assert (filled / "net" / "notes.txt").read_text() == "not ours"


def test_a_link_to_a_folder_is_no_entry_and_is_left_alone(filled, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (filled / "net").rename(elsewhere)
    (filled / "net").symlink_to(elsewhere)
    assert Folder(filled).entries() == []
    Folder(filled).prune(0)
    assert len(list(elsewhere.rglob("model.onnx"))) == 3


def test_what_a_limit_leaves_no_room_for_goes_when_something_is_added(filled):
    new = Maker("new").get(BuildCache(filled, limit=2 * SIZE))
    assert names(filled) == ["three", "new"]
    assert (new.home / "model.onnx").is_file()


def test_without_a_limit_nothing_goes(filled):
    Maker("new").get(BuildCache(filled))
    assert names(filled) == ["one", "two", "three", "new"]


def test_what_a_run_uses_stays_although_there_is_no_room(filled):
    cache = BuildCache(filled, limit=1)
    Maker("one").get(cache)
    Maker("new").get(cache)
    assert names(filled) == ["one", "new"]


def test_what_another_living_process_uses_stays_until_it_ends(filled):
    context = multiprocessing.get_context("spawn")
    told = context.Barrier(2, timeout=60)
    process = context.Process(target=use_until_told, args=(filled, told))
    process.start()
    told.wait()
    (held,) = [kept for kept in Folder(filled).entries() if kept.in_use]
    assert filled / held.name == home(filled, "held")
    Folder(filled).prune(0)
    assert names(filled) == ["held"]
    process.kill()
    process.join(60)
    assert [kept.in_use for kept in Folder(filled).entries()] == [False]
    Folder(filled).prune(0)
    assert names(filled) == []
    assert list((filled / ".runs").iterdir()) == []


def test_what_is_being_built_is_not_waited_for(filled):
    def prune(work):
        Folder(filled).prune(0)

    made = Maker("new", then=prune).get(BuildCache(filled))
    assert made.source == "built"
    assert names(filled) == ["new"]


def test_verifying_reads_every_byte(filled):
    assert Folder(filled).verify() == {}
    path = home(filled, "two") / "model.onnx.data"
    path.write_bytes(b"x" * path.stat().st_size)
    (home(filled, "one") / "build.json").unlink()
    found = Folder(filled).verify()
    assert list(found) == [f"net/dynamo-op20-fp32/{key(name)[:16]}" for name in ("one", "two")]
    texts = list(found.values())
    assert texts[0] == "build.json: No such file or directory"
    assert texts[1].startswith("model.onnx.data has other contents: SHA-256 ")


def test_verifying_tells_an_entry_in_the_place_of_another(filled):
    home(filled, "one").rename(home(filled, "new"))
    (text,) = Folder(filled).verify().values()
    assert text == f"build.json is of another key, {key('one')[:16]}"
