"""Fuzzing notices what it looks for: an input that does one of these things is a failure."""

import subprocess
import sys
from pathlib import Path

import pytest

FUZZ = Path(__file__).parent / "fuzz"


@pytest.mark.skipif(sys.platform != "linux", reason="it reads /proc and watches by inotify")
def test_every_kind_of_fault_is_counted_and_says_how_to_replay_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "outside.txt").write_text("a secret")
    command = [sys.executable, str(FUZZ), "faulty", "--seed=3", "--limit=2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    first, *failures, last = done.stdout.splitlines()
    assert first.startswith("faulty: 9 inputs: 1 accepted, 7 failed, 1 refused; ")
    assert last == "7 failures"
    told = "\n".join(failures)
    assert [number for number in range(9) if f"faulty --seed 3 --only {number}\n" in told] == [
        *range(2, 9)
    ]
    for text in (
        "KeyError: 'raised'",
        f"opened {tmp_path}/outside.txt",
        "a file outside of the folder was opened",
        "subprocess.Popen 'true'",
        "MB of memory were taken",
        "no end within 2 s",
        "died with status -11",
    ):
        assert text in told


def test_an_input_follows_from_its_number(tmp_path):
    command = [sys.executable, str(FUZZ), "histories", "--only=5", f"--keep={tmp_path}"]
    outputs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in "ab"]
    assert outputs[0].stdout.startswith("histories 5: accepted")
    assert (tmp_path / "baseline.json").is_file()
