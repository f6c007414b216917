"""Memory that was freed is kept by a process that shares the machine, and only there."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="glibc's")

#: prints how many pages were asked for to use again what was freed, of 100 MB that have 25,600
SCRIPT = """
import resource
from pytest_onnxcheck.heap import keep_freed

def use():
    return [b"x" * 2**20 for _ in range(100)]

if {kept}:
    keep_freed()
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

#: the same of a process of pytest, where it begins to collect
CONFTEST = """
import os, resource
from pathlib import Path

def use():
    return [b"x" * 2**20 for _ in range(100)]

def pytest_collection(session):
    use()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use()
    found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    name = os.environ.get("PYTEST_XDIST_WORKER", "one")
    Path(f"{name}.faults").write_text(str(found))
"""


def faults(*, kept: bool = True, **environment: str) -> int:
    """Pages that a process asks for which has freed 100 MB, and uses as much again."""
    env = {name: value for name, value in os.environ.items() if "MALLOC" not in name}
    command = [sys.executable, "-c", SCRIPT.format(kept=kept)]
    ran = subprocess.run(command, env=env | environment, capture_output=True, text=True, check=True)
    return int(ran.stdout)


def test_what_was_freed_is_used_again():
    assert faults(kept=False) > 10_000
    assert faults() < 1_000


def test_what_the_user_says_of_memory_holds():
    assert faults(MALLOC_TRIM_THRESHOLD_="131072") > 10_000


def test_workers_keep_memory_and_one_process_that_times_does_not(project):
    (project.path / "conftest.py").write_text(CONFTEST)
    project.manifest("")
    project.pytest("--onnxcheck", "-n", "2", fresh=True)
    project.pytest("--onnxcheck", "-n", "0", fresh=True)
    found = {path.stem: int(path.read_text()) for path in project.path.glob("*.faults")}
    assert sorted(found) == ["gw0", "gw1", "one"]
    assert found.pop("one") > 10_000
    assert max(found.values()) < 1_000
