"""Builds are found again, by others too, and only when they are what was built."""

import contextlib
import json
import multiprocessing
import os
import tempfile
from pathlib import Path

import pytest
from caches import PLACE, Maker, home, key, slowly

from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.errors import CacheError

NOBODY = 65534


@pytest.fixture
def own(tmp_path):
    return tmp_path / "own"


@pytest.fixture
def shared(tmp_path):
    return tmp_path / "shared"


def test_a_build_is_made_once_and_found_by_others(own, shared, tmp_path):
    make = Maker()
    first = make.get(BuildCache(own, shared))
    second = make.get(BuildCache(tmp_path / "another checkout", shared))
    assert (first.source, second.source) == ("built", "local")
    assert make.count == 1
    assert first.home == second.home == home(shared)
    assert first.build == second.build
    assert not own.exists()


def cut(at: Path) -> None:
    (at / "model.onnx").write_bytes((at / "model.onnx").read_bytes()[:-1])


def flip(at: Path, name: str = "model.onnx.data") -> None:
    content = bytearray((at / name).read_bytes())
    content[len(content) // 2] ^= 1
    (at / name).write_bytes(content)


def relink(at: Path) -> None:
    """The same contents, but through a link to a file elsewhere."""
    content = (at / "model.onnx").read_bytes()
    elsewhere = at.parents[3] / "elsewhere"
    elsewhere.write_bytes(content)
    (at / "model.onnx").unlink()
    (at / "model.onnx").symlink_to(elsewhere)


def relink_all(at: Path) -> None:
    elsewhere = at.parents[3] / "folder elsewhere"
    at.rename(elsewhere)
    at.symlink_to(elsewhere)


def rewrite(at: Path, **changes) -> None:
    path = at / "build.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def rename_file(at: Path, name: object) -> None:
    files = json.loads((at / "build.json").read_text())["files"]
    rewrite(at, files=[{**files[0], "name": name}, files[1]])


def fifo(at: Path) -> None:
    (at / "model.onnx").unlink()
    os.mkfifo(at / "model.onnx")


ALTERED = {
    "cut": (cut, "model.onnx has 998 bytes, not 999"),
    "a byte flipped": (flip, "model.onnx.data has other contents"),
    "a file removed": (
        lambda at: (at / "model.onnx.data").unlink(),
        "model.onnx.data: No such file",
    ),
    "a foreign file": (lambda at: (at / "x.py").write_text("1"), "'x.py' does not belong there"),
    "a foreign folder": (lambda at: (at / "x").mkdir(), "'x' does not belong there"),
    "a link in place of a file": (relink, "model.onnx is no plain file"),
    "a link in place of the entry": (relink_all, "no folder, but a link or a file"),
    "a pipe that never ends": (fifo, "model.onnx is no plain file"),
    "no description": (lambda at: (at / "build.json").unlink(), "build.json: No such file"),
    "half a description": (
        lambda at: (at / "build.json").write_text((at / "build.json").read_text()[:50]),
        "build.json is not what was written",
    ),
    "an endless description": (
        lambda at: (at / "build.json").write_bytes(bytes(2 << 20)),
        "build.json has 2097152 bytes",
    ),
    "a deep description": (
        lambda at: (at / "build.json").write_text("[" * 100_000),
        "build.json is not what was written",
    ),
    "another key": (lambda at: rewrite(at, key=key("other")), "is of another key, "),
    "another hash": (lambda at: rewrite(at, sha256="0" * 64), "has another hash of all files"),
    "a hash that is none": (lambda at: rewrite(at, sha256=None), "hash None"),
    "another version": (lambda at: rewrite(at, layout=2), "build.json is not what was written"),
    "no time": (lambda at: rewrite(at, seconds=float("nan")), "seconds nan"),
    "no place": (lambda at: rewrite(at, place=1), "place 1"),
    "no notes": (lambda at: rewrite(at, notes=[]), "notes []"),
    "no files": (lambda at: rewrite(at, files=[]), "no file"),
    "a name that leads out": (
        lambda at: rename_file(at, "../../../../secret"),
        "a file called '../../../../secret'",
    ),
    "a name that is a path": (lambda at: rename_file(at, "/etc/passwd"), "'/etc/passwd'"),
    "a name that is no name": (lambda at: rename_file(at, 1), "a file called 1"),
    "a name twice": (lambda at: rename_file(at, "model.onnx.data"), "that stands there twice"),
    "its own name": (lambda at: rename_file(at, "build.json"), "a file called 'build.json'"),
}


@pytest.mark.parametrize("how", ALTERED)
def test_what_was_altered_is_built_again(own, how):
    make = Maker()
    first = make.get(BuildCache(own))
    spoil, told = ALTERED[how]
    spoil(home(own))
    cache = BuildCache(own)
    again = make.get(cache)
    assert again.source == "built"
    assert make.count == 2
    assert again.build == first.build
    (text,) = cache.told
    assert text.startswith(f"{own}: {PLACE}/{make.key[:16]}: ")
    assert told in text
    assert text.endswith(": not used, but built again")
    assert make.get(BuildCache(own)).source == "local"


@pytest.mark.parametrize("how", ["a link in place of a file", "a link in place of the entry"])
def test_what_a_link_leads_to_is_left_alone(own, tmp_path, how):
    make = Maker()
    make.get(BuildCache(own))
    ALTERED[how][0](home(own))
    (elsewhere,) = tmp_path.glob("*elsewhere*")
    before = {
        path: path.read_bytes() for path in [elsewhere, *elsewhere.glob("*")] if path.is_file()
    }
    make.get(BuildCache(own))
    assert before
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("what", ["net", PLACE, f"{PLACE}/LOCK", ".runs"])
def test_nothing_is_written_through_a_link_that_leads_out(own, shared, tmp_path, what):
    elsewhere = tmp_path / "elsewhere"
    link = shared / what.replace("LOCK", f"{key('one')[:16]}.lock")
    link.parent.mkdir(parents=True)
    if what.endswith("LOCK"):
        elsewhere.write_text("not ours")
    else:
        elsewhere.mkdir()
    link.symlink_to(elsewhere)
    cache = BuildCache(own, shared)
    assert Maker().get(cache).home == home(own)
    assert "link" in cache.told[0]
    if elsewhere.is_dir():
        assert list(elsewhere.iterdir()) == []
    else:
        assert elsewhere.read_text() == "not ours"


def test_only_the_first_damage_is_told(own):
    names = ["one", "two", "three"]
    for name in names:
        Maker(name).get(BuildCache(own))
        flip(home(own, name))
    cache = BuildCache(own)
    assert [Maker(name).get(cache).source for name in names] == ["built"] * 3
    assert len(cache.told) == 1


def test_a_full_disk_leaves_the_run_its_own_folder(own, shared):
    def fill_up(work: Path) -> None:
        if work.is_relative_to(shared):
            with Path("/dev/full").open("w") as file:
                file.write("more than there is room for")

    make = Maker(then=fill_up)
    cache = BuildCache(own, shared)
    found = make.get(cache)
    assert (found.source, found.home) == ("built", home(own))
    (text,) = cache.told
    assert text == (
        f"{shared}: cannot be written to: No space left on device. What is there is read; what is "
        f"built is kept in {own} in this run"
    )
    assert [path.name for path in home(shared).parent.iterdir() if path.suffix != ".lock"] == []
    assert Maker("two").get(cache).home == home(own, "two")
    assert len(cache.told) == 1


def test_a_full_disk_everywhere_is_an_error_that_says_what_to_do(own):
    def fill_up(work: Path) -> None:
        try:
            with Path("/dev/full").open("w") as file:
                file.write("more than there is room for")
        except OSError as error:
            raise RuntimeError("the exporter failed") from error

    with pytest.raises(CacheError) as caught:
        Maker(then=fill_up).get(BuildCache(own))
    assert str(caught.value) == (
        f"{own}: artefacts cannot be kept there: No space left on device. Make room (onnxcheck "
        "cache prune), or name another folder (--onnxcheck-artifacts=DIR)"
    )


def test_an_error_of_the_build_is_its_own(own, shared):
    def missing(work: Path) -> None:
        (work / "calibration.npz").read_bytes()

    with pytest.raises(FileNotFoundError, match=r"calibration\.npz"):
        Maker(then=missing).get(BuildCache(own, shared))
    assert [path.name for path in home(shared).parent.iterdir() if path.suffix != ".lock"] == []


def test_a_file_in_place_of_the_folder_is_told(own, shared):
    shared.write_text("not a folder")
    cache = BuildCache(own, shared)
    assert Maker().get(cache).home == home(own)
    assert "exists" in cache.told[0].lower() or "not a directory" in cache.told[0].lower()


@pytest.fixture
def open_to_all():
    """A folder that everybody may enter; pytest's own are for one user."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@contextlib.contextmanager
def as_nobody(*folders: Path):
    """Inside, this process is somebody who owns these folders alone."""
    for folder in folders:
        folder.mkdir()
        os.chown(folder, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


root_only = pytest.mark.skipif(os.geteuid() != 0, reason="takes another user's part")


@root_only
def test_a_read_only_folder_is_read_and_the_rest_kept_in_the_runs_own(open_to_all):
    own, shared = open_to_all / "own", open_to_all / "shared"
    make, new = Maker(), Maker("new")
    make.get(BuildCache(own, shared))
    with as_nobody(own):
        cache = BuildCache(own, shared)
        found = [one.get(cache) for one in (make, make, new)]
    assert [(each.source, each.home) for each in found] == [
        ("local", home(own)),
        ("local", home(own)),
        ("built", home(own, "new")),
    ]
    assert cache.told == [
        f"{shared}: cannot be written to: Permission denied. What is there is read; what is built "
        f"is kept in {own} in this run"
    ]
    assert not home(shared, "new").exists()


@root_only
def test_what_is_altered_in_a_read_only_folder_is_built(open_to_all):
    own, shared = open_to_all / "own", open_to_all / "shared"
    make = Maker()
    make.get(BuildCache(own, shared))
    flip(home(shared))
    with as_nobody(own):
        cache = BuildCache(own, shared)
        assert make.get(cache).source == "built"
    assert cache.told[1].startswith(f"{shared}: {PLACE}/{make.key[:16]}: model.onnx.data has other")


@root_only
@pytest.mark.parametrize("unreadable", ["entry", "file"])
def test_what_cannot_be_read_is_built(open_to_all, unreadable):
    own, shared = open_to_all / "own", open_to_all / "shared"
    make = Maker()
    make.get(BuildCache(own, shared))
    (home(shared) if unreadable == "entry" else home(shared) / "model.onnx").chmod(0)
    with as_nobody(own):
        assert make.get(BuildCache(own, shared)).source == "built"


def test_processes_build_one_key_once_in_a_shared_folder(tmp_path):
    context = multiprocessing.get_context("spawn")
    start, log = context.Barrier(2, timeout=60), tmp_path / "log"
    processes = [context.Process(target=slowly, args=(tmp_path, log, start)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert log.read_text() == "built\n"
