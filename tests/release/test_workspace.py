"""What a killed process left of a bundle is removed, and what a living one makes is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_onnxcheck.release.workspace import workspace

#: makes one, says so, and waits
HOLDS = """
import sys
from pathlib import Path
from pytest_onnxcheck.release.workspace import workspace
with workspace(Path(sys.argv[1])) as folder:
    (folder / "half.onnx").write_bytes(b"half")
    print(folder.name, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path: Path):
    """Another process that is making a bundle in `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(".bundling-")
        yield process
        process.kill()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_is_gone_afterwards_whatever_happens(tmp_path):
    with workspace(tmp_path / "deeper") as folder:
        (folder / "file").touch()
        assert folder.parent == tmp_path / "deeper"
    assert names(tmp_path / "deeper") == []

    def fails() -> None:
        with workspace(tmp_path) as folder:
            (folder / "file").touch()
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        fails()
    assert names(tmp_path) == ["deeper"]


def test_what_a_living_process_makes_is_left_alone(tmp_path, other):
    (before,) = names(tmp_path)
    with workspace(tmp_path):
        assert len(names(tmp_path)) == 2
    assert names(tmp_path) == [before]
    other.stdin.close()
    assert other.wait(60) == 0
    assert names(tmp_path) == []


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path, other):
    os.kill(other.pid, signal.SIGKILL)
    other.wait(60)
    (left,) = names(tmp_path)
    (tmp_path / ".bundling-is-a-file").touch()
    (tmp_path / "detector-1.0").mkdir()
    with workspace(tmp_path) as folder:
        assert names(tmp_path) == sorted([folder.name, ".bundling-is-a-file", "detector-1.0"])
    assert left != folder.name


def test_one_that_was_removed_before_it_was_locked_is_made_again(tmp_path, monkeypatch):
    import tempfile

    made, make = [], tempfile.mkdtemp

    def removed_at_first(**options):
        folder = make(**options)
        if not made:
            Path(folder).rmdir()
        made.append(folder)
        return folder

    monkeypatch.setattr(tempfile, "mkdtemp", removed_at_first)
    with workspace(tmp_path) as folder:
        assert folder.is_dir()
    assert len(made) == 2
