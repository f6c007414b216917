"""Memory that was freed is kept by a process that shares the machine, and only there."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
from project import Project, mlps

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's")

#: where the environment says how memory is kept
SAID = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD")

#: what share of the pages had to be asked for again to use 100 MB that were freed
USED_AGAIN = """
import resource

def use():
    return [b"x" * 2**20 for _ in range(100)]

def asked_again():
    use()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    use()
    found = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
    return found * resource.getpagesize() / (100 * 2**20)
"""
KEEPING = "from pytest_onnxcheck.heap import keep_freed; keep_freed()\n"

#: writes the share of every process of a run
CONFTEST = """
import os, pytest
from pathlib import Path

@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    isolated = config.pluginmanager.has_plugin("onnxcheck-isolated")
    name = "isolated" if isolated else os.environ.get("PYTEST_XDIST_WORKER", "first")
    Path(f"{name}.share").write_text(str(asked_again()))
"""


def share(before: str = "", **environment: str) -> float:
    """The share that a process asks for again."""
    env = {name: value for name, value in os.environ.items() if name not in SAID}
    command = [sys.executable, "-c", f"{before}{USED_AGAIN}print(asked_again())"]
    ran = subprocess.run(command, env=env | environment, capture_output=True, text=True, check=True)
    return float(ran.stdout)


@pytest.fixture(scope="module", autouse=True)
def _returned() -> None:
    """Skips where memory that was freed is kept anyway, or pages are larger than they say."""
    if share() < 0.5:
        pytest.skip("this system's malloc or kernel keeps what is freed")


def test_what_was_freed_is_used_again():
    assert share(KEEPING) < 0.1


@pytest.mark.parametrize(
    "environment",
    [
        {"MALLOC_TRIM_THRESHOLD_": "131072"},
        {"MALLOC_MMAP_THRESHOLD_": "131072"},
        {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"},
    ],
    ids=lambda it: next(iter(it)),
)
def test_what_the_user_says_of_memory_holds(environment: dict[str, str]):
    assert share(KEEPING, **environment) > 0.5


def test_what_the_user_says_of_other_things_does_not_matter():
    assert share(KEEPING, GLIBC_TUNABLES="glibc.pthread.rseq=1") < 0.1


@pytest.mark.parametrize(
    ("args", "kept"),
    [
        ("-n 2", ["gw0", "gw1"]),
        ("-n 2 --onnxcheck-recommend=1", []),
        ("-n 2 --onnxcheck-isolate", ["gw0", "gw1"]),
        ("-n 1", []),
        ("-n 0", []),
    ],
)
def test_workers_keep_memory_unless_they_time_or_it_is_counted(
    project: Project, monkeypatch: pytest.MonkeyPatch, args: str, kept: list[str]
):
    for name in SAID:
        monkeypatch.delenv(name, raising=False)
    (project.path / "conftest.py").write_text(USED_AGAIN + CONFTEST)
    project.manifest(mlps("net"))
    project.pytest("--onnxcheck", "-m", "structure", *args.split(), fresh=True)
    found = {path.stem: float(path.read_text()) for path in project.path.glob("*.share")}
    assert sorted(name for name, again in found.items() if again < 0.1) == kept
    assert found.keys() >= {"first", *kept}
    assert ("isolated" in found) == ("isolate" in args)
