"""Artefacts are built once, under a key, and only whole ones are ever used."""

import json
import multiprocessing
import re

import onnx
import pytest
from builders import FOLDER, KEY, OTHER_KEY, Builder, get_together, graph

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.engine.artefacts.artefact import Notes
from pytest_onnxcheck.engine.artefacts.store import ArtefactStore
from pytest_onnxcheck.files import hashed


@pytest.fixture
def root(tmp_path):
    return tmp_path / "artefacts"


@pytest.fixture
def store(root):
    return ArtefactStore(BuildCache(root))


def leftovers(root):
    """What is in the folder, locks aside."""
    return [p.name for p in (root / FOLDER).iterdir() if p.suffix != ".lock"]


def test_an_artefact_is_built_once(store, root):
    build = Builder()
    first, second = store.get(FOLDER, KEY, build), store.get(FOLDER, KEY, build)
    assert build.count == 1
    assert (first.cached, second.cached) == (False, True)
    kept = Notes(options={"operators": ["Add"]}, narrowed=("x",))
    assert (first.sha256, first.notes) == (second.sha256, kept)
    assert second.notes == first.notes
    assert first.path == second.path
    assert onnx.load(first.path).graph.name == "net"


def test_another_store_on_the_same_folder_reuses_it(store, root):
    build = Builder()
    store.get(FOLDER, KEY, build)
    assert ArtefactStore(BuildCache(root)).get(FOLDER, KEY, build).cached
    assert build.count == 1


def test_another_key_builds_anew_and_keeps_the_first(store, root):
    first = store.get(FOLDER, KEY, Builder(1.0))
    second = store.get(FOLDER, OTHER_KEY, Builder(2.0))
    assert not second.cached
    assert first.sha256 != second.sha256
    assert store.get(FOLDER, KEY, Builder()).cached


def test_keys_lie_in_a_folder_that_people_can_find(store, root):
    path = store.get(FOLDER, KEY, Builder()).path
    assert path.is_relative_to(root / FOLDER)


def test_git_ignores_the_folder(store, root):
    store.get(FOLDER, KEY, Builder())
    assert (root / ".gitignore").read_text().splitlines()[-1] == "*"


def test_nothing_is_written_before_the_first_artefact(store, root):
    assert not root.exists()


def test_a_failed_build_leaves_nothing_behind_and_can_be_repeated(store, root):
    def fail(path):
        path.write_bytes(b"half a file")
        (path.parent / "more.data").write_bytes(b"more")
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        store.get(FOLDER, KEY, fail)
    assert leftovers(root) == []
    assert not store.get(FOLDER, KEY, Builder()).cached


def test_a_build_that_writes_no_file_leaves_nothing_behind(store, root):
    with pytest.raises(OSError, match=r"model\.onnx"):
        store.get(FOLDER, KEY, lambda path: Notes())
    assert leftovers(root) == []


def truncate(home):
    path = home / "model.onnx"
    path.write_bytes(path.read_bytes()[:-20])


def notes_of_before(home):
    record = json.loads((home / "build.json").read_text())
    record["notes"] = {"traced": "net.py:3: the tracer says: no", "options": {}, "narrowed": []}
    (home / "build.json").write_text(json.dumps(record))


TAMPERING = {
    "another valid file": lambda home: onnx.save(graph(3.0, 64), home / "model.onnx"),
    "truncated": truncate,
    "garbage": lambda home: (home / "model.onnx").write_bytes(b"garbage"),
    "deleted": lambda home: (home / "model.onnx").unlink(),
    "record cut short": lambda home: (home / "build.json").write_text('{"seconds": 1'),
    "record of an older version": lambda home: (home / "build.json").write_text("{}"),
    "record of the layout before Notes": notes_of_before,
    "record deleted": lambda home: (home / "build.json").unlink(),
}


@pytest.mark.parametrize("how", TAMPERING)
def test_what_was_changed_since_is_built_again(store, root, how):
    first = store.get(FOLDER, KEY, Builder())
    TAMPERING[how](first.path.parent)
    build = Builder()
    again = store.get(FOLDER, KEY, build)
    assert build.count == 1
    assert not again.cached
    assert again.sha256 == first.sha256
    assert store.get(FOLDER, KEY, build).cached


@pytest.mark.parametrize("change", ["overwrite", "delete"])
def test_changed_external_data_is_built_again(store, change):
    first = store.get(FOLDER, KEY, Builder(external=True))
    data = first.path.parent / "model.onnx.data"
    if change == "delete":
        data.unlink()
    else:
        data.write_bytes(bytes(data.stat().st_size))
    again = store.get(FOLDER, KEY, Builder(external=True))
    assert not again.cached
    assert again.sha256 == first.sha256


def test_two_processes_build_one_key_once(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, log = context.Barrier(2, timeout=60), tmp_path / "log"
    processes = [
        context.Process(target=get_together, args=(tmp_path / "artefacts", log, start))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert log.read_text() == "built\n"


def test_what_killed_builds_of_other_keys_left_is_removed(store, root):
    store.get(FOLDER, KEY, Builder())
    (root / FOLDER / ".building-abc").mkdir()
    elsewhere = root / "repro" / "net" / ".building-def"
    elsewhere.mkdir(parents=True)
    assert ArtefactStore(BuildCache(root)).get(FOLDER, KEY, Builder()).cached
    assert leftovers(root) == [KEY[:16]]
    assert not elsewhere.exists()


def resealed(home, **changes):
    """Writes hashes and sizes that fit what is there now, as whoever may write there can."""
    record = json.loads((home / "build.json").read_text())
    names = [file["name"] for file in record["files"]]
    names = [name for name in names if (home / name).is_file()]
    whole, each = hashed(home / name for name in names)
    files = [
        {"name": name, "size_bytes": (home / name).stat().st_size, "sha256": digest}
        for name, digest in zip(names, each, strict=True)
    ]
    record |= {"sha256": whole, "files": files, **changes}
    (home / "build.json").write_text(json.dumps(record))


def read_from(home, location):
    model = onnx.load(home / "model.onnx", load_external_data=False)
    (tensor,) = model.graph.initializer
    for noted in tensor.external_data:
        if noted.key == "location":
            noted.value = location
    (home / "model.onnx").write_bytes(model.SerializeToString())


HOSTILE = {
    "weights from a file outside": (
        lambda home: read_from(home, "../../../../secret"),
        r"it reads model\.onnx, \.\./\.\./\.\./\.\./secret, which are not its files",
    ),
    "weights from any file": (
        lambda home: read_from(home, "/etc/passwd"),
        r"it reads model\.onnx, /etc/passwd, which are not its files",
    ),
    "weights that were left out": (
        lambda home: (home / "model.onnx.data").unlink(),
        r"it reads model\.onnx, model\.onnx\.data, which are not its files",
    ),
    "no ONNX": (
        lambda home: (home / "model.onnx").write_bytes(b"garbage"),
        "it is no artefact: ",
    ),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_hashes_that_fit_do_not_make_an_artefact(root, how):
    first = ArtefactStore(BuildCache(root)).get(FOLDER, KEY, Builder(external=True))
    spoil, told = HOSTILE[how]
    spoil(first.path.parent)
    resealed(first.path.parent)
    cache = BuildCache(root)
    again = ArtefactStore(cache).get(FOLDER, KEY, Builder(external=True))
    assert (again.source, again.sha256) == ("built", first.sha256)
    assert re.search(told, cache.told[0])


def test_notes_that_are_none_of_ours_are_not_read(store, root):
    first = store.get(FOLDER, KEY, Builder())
    resealed(first.path.parent, notes={"options": {}})
    cache = BuildCache(root)
    assert ArtefactStore(cache).get(FOLDER, KEY, Builder()).source == "built"
    assert "it is no artefact: 'calibration': not used, but built again" in cache.told[0]
