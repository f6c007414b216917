"""What tests of runs that are cut off share: a run that is killed, and what was really run."""

from __future__ import annotations

import signal

from project import Project, mlps

#: a conftest that counts measurements, and kills the process at a check
COUNTING = """
import os
import signal
import time
from pathlib import Path

import pytest

COUNTED = Path(__file__).parent / "counted"
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
os.environ.setdefault("MAIN_PID", str(os.getpid()))  # for the processes that work for it


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    before = COUNTED.read_text().splitlines() if COUNTED.exists() else []
    at, after = os.environ.get("KILL_AT"), os.environ.get("KILL_AFTER")
    if at == pyfuncitem.name or str(len(before)) == after:
        whom = os.environ.get("KILL_WHOM")
        killed = int(os.environ["MAIN_PID"]) if whom == "main" else os.getpid()
        os.kill(killed, int(os.environ["KILL_BY"]))
        if killed != os.getpid():
            time.sleep(600)  # until it is ended too
    with COUNTED.open("a") as file:
        file.write(pyfuncitem.nodeid.partition("::")[2] + "\\n")
"""

FP32 = "torchscript-op17-fp32"


def counting(project: Project) -> Project:
    """Gives it two models and the conftest that counts."""
    project.on_clock(COUNTING)
    project.manifest(mlps("one", "two"), "[defaults.latency]\nseconds = 0.1")
    return project


def run_checks(project: Project) -> list[str]:
    """The checks that were run since it was asked last."""
    path = project.path / "counted"
    found = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return found


def killed(project: Project, check: str, *args: str, by: int = signal.SIGKILL) -> list[str]:
    """The checks that a run makes before it is killed at the beginning of one."""
    project.environ |= {"KILL_AT": check, "KILL_BY": str(int(by))}
    assert project.run(*args).ret in (-by, 2)
    del project.environ["KILL_AT"]
    return run_checks(project)
