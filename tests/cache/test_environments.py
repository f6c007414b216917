"""Environments of targets in a cache's folder: who uses them, and what is removed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_onnxcheck.cache.environments import Environments
from pytest_onnxcheck.engine.environments import made

ONE, TWO = "1" * 16, "2" * 16

#: holds an environment until its input ends
USER = """
import sys
from pathlib import Path
from pytest_onnxcheck.cache.environments import Environments
environments = Environments(Path(sys.argv[1]))
with environments.held(sys.argv[2]):
    pass
print("held", flush=True)
sys.stdin.read()
"""


def make(root: Path, name: str, packages: str = "onnxruntime==1.17.0", *, used: float = 0) -> Path:
    """An environment of a few bytes, of a process that is gone."""
    environments = Environments(root)
    with environments.held(name) as home, environments.making(home, packages) as work:
        (work / "bin").mkdir(parents=True)
        (work / "bin" / "python").write_bytes(bytes(1000))
    if used:
        os.utime(home / "environment.json", (used, used))
    return home


def test_what_is_there_is_listed_the_longest_unused_first(tmp_path: Path):
    make(tmp_path, ONE, used=1_700_000_001)
    make(tmp_path, TWO, "openvino", used=1_700_000_000)
    (tmp_path / "own").mkdir()
    found = Environments(tmp_path).entries()
    assert [(each.name, each.packages, each.used) for each in found] == [
        (TWO, "openvino", 1_700_000_000),
        (ONE, "onnxruntime==1.17.0", 1_700_000_001),
    ]
    assert all(1000 < each.size_bytes < 1100 and not each.in_use for each in found)


def test_using_one_makes_it_the_latest(tmp_path: Path):
    make(tmp_path, ONE, used=1_700_000_000)
    make(tmp_path, TWO, used=1_700_000_001)
    environments = Environments(tmp_path)
    with environments.held(ONE):
        pass
    found = environments.entries()
    assert [(each.name, each.in_use) for each in found] == [(TWO, False), (ONE, True)]
    assert not environments.remove(ONE)
    assert environments.remove(TWO)


def test_what_a_living_process_uses_stays_until_it_ends(tmp_path: Path):
    home = make(tmp_path, ONE)
    user = subprocess.Popen(
        [sys.executable, "-c", USER, str(tmp_path), ONE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert user.stdin is not None
    assert user.stdout is not None
    with user:
        assert user.stdout.readline() == b"held\n"
        environments = Environments(tmp_path)
        assert environments.entries()[0].in_use
        assert not environments.remove(ONE)
        user.kill()
    assert environments.remove(ONE)
    assert not home.exists()
    assert environments.entries() == []


def test_what_is_being_made_is_left_alone_and_what_was_given_up_is_not(tmp_path: Path):
    environments = Environments(tmp_path)
    with environments.held(ONE) as home, environments.making(home, "numpy") as work:
        work.mkdir()
        (tmp_path / f".making-{TWO}").mkdir()
        Environments(tmp_path).tidy()
        assert work.is_dir()
        assert not (tmp_path / f".making-{TWO}").exists()
    assert home.is_dir()


def test_one_that_fails_is_not_there(tmp_path: Path):
    environments = Environments(tmp_path)

    def fail() -> None:
        with environments.held(ONE) as home, environments.making(home, "numpy") as work:
            work.mkdir()
            raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        fail()
    assert environments.entries() == []
    assert not (tmp_path / f".making-{ONE}").exists()


def test_another_s_folder_is_left_alone(tmp_path: Path):
    (tmp_path / ONE).mkdir()
    environments = Environments(tmp_path)
    assert environments.entries() == []
    environments.tidy()
    assert (tmp_path / ONE).is_dir()


@pytest.mark.skipif(os.name == "nt", reason="links")
def test_a_link_in_place_of_one_is_not_followed(tmp_path: Path):
    root, precious = tmp_path / "kept", tmp_path / "precious"
    precious.mkdir()
    make(root, ONE)
    (root / TWO).symlink_to(precious)
    assert [each.name for each in Environments(root).entries()] == [ONE]
    (root / f"{ONE}.lock").unlink()
    (root / f"{ONE}.lock").symlink_to(tmp_path / "elsewhere")
    assert not Environments(root).remove(ONE)
    assert not (tmp_path / "elsewhere").exists()


def test_making_one_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(
        "pytest_onnxcheck.engine.environments._make", lambda _, work, *__: work.mkdir()
    )
    kept = tmp_path / "kept"
    made(["onnxruntime==1.17.0"], kept)
    (found,) = Environments(kept).entries()
    assert (found.packages, found.in_use) == ("onnxruntime==1.17.0", True)


def test_a_folder_that_is_anothers_keeps_its_gitignore_and_what_is_in_it(tmp_path: Path):
    (tmp_path / ".gitignore").write_text("*.pyc\n")
    home = make(tmp_path, ONE)
    assert (tmp_path / ".gitignore").read_text() == "*.pyc\n"
    environments = Environments(tmp_path)
    assert not environments.is_ours
    environments.tidy()
    assert home.is_dir()
