"""A folder as a store: what is left behind, and what the system refuses."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_onnxcheck.errors import StorageError
from pytest_onnxcheck.storage import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "store")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_a_killed_process_left_is_removed_and_what_lives_is_not(store: Store, tmp_path: Path):
    store.put("a/1", b"1")
    (tmp_path / "store/a/.incoming-dead").write_bytes(b"half")
    code = (
        "import fcntl, sys, time\nfile = open(sys.argv[1], 'xb')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\nprint('locked', flush=True)\ntime.sleep(600)"
    )
    living = tmp_path / "store/a/.incoming-living"
    with subprocess.Popen([sys.executable, "-c", code, living], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        store.put("a/2", b"2")
        assert files(tmp_path / "store") == [".incoming-living", "1", "2"]
        assert [one.key for one in store.listed()] == ["a/1", "a/2"]
        process.send_signal(signal.SIGKILL)
    assert store.read("a/1").data == b"1"
    assert files(tmp_path / "store") == ["1", "2"]


def test_a_name_that_is_used_for_what_is_incomplete(store: Store):
    with pytest.raises(StorageError, match=r"'a/.incoming-1' cannot be stored"):
        store.put("a/.incoming-1", b"")


def test_a_link_does_not_lead_out(store: Store, tmp_path: Path):
    (tmp_path / "store").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_bytes(b"secret")
    (tmp_path / "store/link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "store/file").symlink_to(tmp_path / "elsewhere/file")
    for key in ("link/file", "file"):
        with pytest.raises(StorageError, match=r"leads out of .*/store: remove the link there"):
            store.read(key)
    assert list(store.listed()) == []


def test_no_room_is_told_and_leaves_nothing(store: Store, tmp_path: Path):
    store.put("a", b"before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"the limit for the size of a file is reached"):
            store.put("a", b"x" * 2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert store.read("a").data == b"before"
    assert files(tmp_path / "store") == ["a"]


def test_a_file_where_a_folder_should_be(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file: .*choose another folder"):
        open_store(tmp_path / "file").put("a/b", b"1")
