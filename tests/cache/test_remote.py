"""A store that machines share: what is fetched is checked, and one that fails stops nobody."""

import json
import threading

import pytest
from caches import PLACE, Maker, home, key

from pytest_onnxcheck.cache import remote as cache_remote
from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.storage import local, parse


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def machine(tmp_path, store):
    """A machine by its name: what it has in its own folder, and the store that all share."""
    return lambda name: BuildCache(tmp_path / name, remote=parse(store.as_uri()))


@pytest.fixture
def filled(machine, store):
    """The store with an entry."""
    assert Maker().get(machine("builder")).source == "built"
    return store


def entry_of(store, name="one"):
    return store / "entries" / f"{key(name)}.json"


def objects(store):
    """The files of the entry, the larger first."""
    return sorted((store / "objects").iterdir(), key=lambda path: -path.stat().st_size)


def test_what_one_machine_builds_another_fetches(machine, filled, tmp_path):
    make, cache = Maker(), machine("other")
    found = make.get(cache)
    assert (found.source, make.count) == ("remote", 0)
    assert found.home == home(tmp_path / "other")
    assert {path.name: path.read_bytes() for path in found.home.iterdir()} == {
        path.name: path.read_bytes() for path in home(tmp_path / "builder").iterdir()
    }
    assert make.get(machine("other")).source == "local"
    assert cache.told == []


def test_what_is_in_a_folder_is_not_fetched(machine, filled):
    for path in filled.rglob("*"):
        if path.is_file():
            path.write_bytes(b"garbage")
    cache = machine("builder")
    assert Maker().get(cache).source == "local"
    assert cache.told == []


def test_a_shared_folder_stands_before_the_remote(tmp_path, filled):
    remote, shared = parse(filled.as_uri()), tmp_path / "shared"
    caches = [BuildCache(tmp_path / name, shared, remote=remote) for name in "ab"]
    assert [Maker().get(cache).source for cache in caches] == ["remote", "local"]


def rewritten(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def flipped(path):
    content = bytearray(path.read_bytes())
    content[5] ^= 1
    path.write_bytes(content)


def huge(store):
    """An entry that claims to have more bytes than any disk."""
    files = json.loads(entry_of(store).read_text())["files"]
    rewritten(entry_of(store), files=[{**files[0], "size_bytes": 1 << 60}, files[1]])


def leading_out(store):
    files = json.loads(entry_of(store).read_text())["files"]
    rewritten(entry_of(store), files=[{**files[0], "name": "../../../owned"}, files[1]])


def hash_that_leads_out(store):
    files = json.loads(entry_of(store).read_text())["files"]
    rewritten(entry_of(store), files=[{**files[0], "sha256": "../../secret"}, files[1]])


def of_another_key(store):
    rewritten(entry_of(store), key=key("other"))


ALTERED = {
    "a byte flipped": (lambda s: flipped(objects(s)[0]), "model.onnx has other contents than"),
    "cut": (lambda s: objects(s)[0].write_bytes(b"x"), "model.onnx has 1 bytes, not 999"),
    "an object removed": (lambda s: objects(s)[0].unlink(), "model.onnx is not there"),
    "half a description": (
        lambda s: entry_of(s).write_text(entry_of(s).read_text()[:40]),
        "build.json is not what was written",
    ),
    "an endless description": (
        lambda s: entry_of(s).write_bytes(bytes(2 << 20)),
        "build.json has 2097152 bytes, and 1048576 at most",
    ),
    "of another key": (of_another_key, "build.json is of another key"),
    "larger than the disk": (huge, "it is to have 1152921504606846986 bytes, and "),
    "a name that leads out": (leading_out, "a file called '../../../owned'"),
    "a hash that leads out": (hash_that_leads_out, "hash '../../secret'"),
}


@pytest.mark.parametrize("how", ALTERED)
def test_what_was_altered_is_built_here_and_mended_there(machine, filled, tmp_path, how):
    spoil, told = ALTERED[how]
    spoil(filled)
    make, cache = Maker(), machine("other")
    assert make.get(cache).source == "built"
    (text,) = cache.told
    assert text.startswith(f"{filled.as_uri()}: {PLACE}/{key('one')[:16]}: ")
    assert told in text
    assert text.endswith(": not used, but built again")
    assert not (tmp_path / "owned").exists()
    third = machine("third")
    assert (make.get(third).source, third.told, make.count) == ("remote", [], 1)


def test_a_build_that_its_reader_has_no_use_for_is_not_taken(machine, filled):
    def check(folder, build):
        raise cache_remote.AlteredError("it is no artefact")

    cache, make = machine("other"), Maker()
    assert cache.get(PLACE, make.key, make, check).source == "built"
    assert "it is no artefact: not used, but built again" in cache.told[0]


def failing(monkeypatch, method, error):
    def fail(self, *args, **kwargs):
        asked.append(method)
        raise error

    asked = []
    monkeypatch.setattr(local.LocalStore, method, fail)
    return asked


def test_a_store_that_is_down_is_told_once_and_not_asked_again(machine, filled, monkeypatch):
    asked = failing(monkeypatch, "head", StorageError("s3://b: cannot be reached"))
    cache = machine("other")
    assert [Maker(name).get(cache).source for name in ("one", "two", "three")] == ["built"] * 3
    assert asked == ["head"]
    assert cache.told == [
        "s3://b: cannot be reached. Artefacts are built here; it is not asked again in this run"
    ]


def test_who_may_only_read_goes_on_reading(machine, filled, monkeypatch):
    asked = failing(monkeypatch, "put", StorageError("s3://b: not allowed"))
    cache = machine("other")
    found = [Maker(name).get(cache).source for name in ("new", "newer", "one")]
    assert found == ["built", "built", "remote"]
    assert asked == ["put"]
    assert cache.told == ["s3://b: not allowed. What is built here is not stored there"]
    assert not entry_of(filled, "new").exists()


def test_what_a_library_raises_is_told_without_its_words(machine, filled, monkeypatch):
    failing(monkeypatch, "head", ValueError("https://me:SECRET@host is no address"))
    cache = machine("other")
    assert Maker().get(cache).source == "built"
    (text,) = cache.told
    assert text.startswith(f"{filled.as_uri()}: ValueError. Artefacts are built here; ")


@pytest.mark.parametrize("method", ["head", "get"])
def test_a_store_that_hangs_is_given_up(machine, filled, monkeypatch, method):
    released = threading.Event()
    monkeypatch.setattr(local.LocalStore, method, lambda self, *_: released.wait())
    monkeypatch.setattr(cache_remote, "_PATIENCE", 0.05)
    cache = machine("other")
    try:
        assert Maker().get(cache).source == "built"
    finally:
        released.set()
    assert "no answer within 0.0" in cache.told[0]
    assert cache.told[0].endswith(" Artefacts are built here; it is not asked again in this run")


def test_of_two_machines_that_build_at_once_each_entry_is_whole(machine, store):
    """They built other bytes under one key, as an exporter may."""
    one, other = Maker(), Maker()
    other.contents["model.onnx"] = b"other bytes"
    other.then = lambda work: one.get(machine("one"))
    assert other.get(machine("other")).source == "built"
    fetched = Maker().get(machine("third"))
    assert fetched.source == "remote"
    assert (fetched.home / "model.onnx").read_bytes() == one.contents["model.onnx"]


def test_an_unfinished_upload_is_no_entry(machine, store, monkeypatch):
    failing(monkeypatch, "put_if_absent", StorageError("cut"))
    Maker().get(machine("builder"))
    monkeypatch.undo()
    assert len(objects(store)) == 2
    cache = machine("other")
    assert Maker().get(cache).source == "built"
    assert cache.told == []
    assert Maker().get(machine("third")).source == "remote"
