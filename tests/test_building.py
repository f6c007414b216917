"""What is being built is in a folder of its own, which no killed process leaves behind for long."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_onnxcheck.files import abandoned, building

HOLD = """
import sys, time
from pathlib import Path
from pytest_onnxcheck.files import building

with building(Path(sys.argv[1])) as folder:
    (folder / "half").write_text("a file")
    time.sleep(600)
"""


@pytest.fixture
def builder(tmp_path: Path):
    """A process that builds, once it has begun."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path]) as process:
        while not any(tmp_path.rglob("half")):
            assert process.poll() is None
            time.sleep(0.01)
        yield process
        process.kill()


def test_a_folder_is_gone_when_it_was_used_and_when_using_it_failed(tmp_path: Path):
    with building(tmp_path) as folder:
        assert list(folder.iterdir()) == []
    with pytest.raises(RuntimeError, match="no"), building(tmp_path):
        raise RuntimeError("no")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_a_living_one_builds_stays(
    tmp_path: Path, builder: subprocess.Popen[bytes]
):
    (own,) = (path.parent for path in tmp_path.rglob("half"))
    with building(tmp_path) as other:
        assert (own.exists(), other.exists()) == (True, True)
    builder.kill()
    builder.wait()
    assert own.exists()
    with building(tmp_path):
        assert not own.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_a_lock_is_nobodys(tmp_path: Path):
    left = tmp_path / ".building-abc"
    left.mkdir()
    (left / "half").touch()
    (tmp_path / ".building-def.lock").touch()
    (tmp_path / "kept").mkdir()
    abandoned(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
