"""The worker of a server: started again when it was killed, and not when it cannot work."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from working import project, until

from pytest_onnxcheck.serve.jobs import embedded
from pytest_onnxcheck.serve.jobs.embedded import EmbeddedWorker
from pytest_onnxcheck.serve.jobs.queue import open_jobs
from pytest_onnxcheck.serve.jobs.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs need Linux")


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(embedded, "_AGAIN", 0.0)


def test_one_that_cannot_work_is_started_three_times_and_its_error_is_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    jobs = open_jobs(project(tmp_path))
    (jobs.files / "workers").write_text("in the way")
    told: list[str] = []
    worker = EmbeddedWorker(jobs, Settings(), told.append)
    worker.start()
    try:
        until(lambda: told and told[-1].startswith("no job is run any more"))
    finally:
        worker.close()
    again = "the worker of jobs ended (exit status 1): it is started again"
    assert told[:-1] == [again] * 2
    assert told[-1].startswith(
        "no job is run any more: the worker ended 3 times in a row (exit status 1): mend "
    )
    said = capfd.readouterr().err
    assert said.count("the worker of jobs cannot be started: ") == 3
    assert str(jobs.files / "workers") in said
    assert "Traceback" not in said


def takes_sigterm(pid: int | None) -> bool:
    """Whether a process has said what it does at SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize(
    ("number", "how"), [(signal.SIGKILL, "SIGKILL"), (signal.SIGTERM, "exit status 0")]
)
def test_one_that_is_ended_is_started_again_however_often(tmp_path: Path, number: int, how: str):
    jobs = open_jobs(project(tmp_path))
    told: list[str] = []
    worker = EmbeddedWorker(jobs, Settings(), told.append)
    worker.start()
    try:
        seen: set[int] = set()
        for _ in range(4):
            until(lambda: worker.pid is not None and worker.pid not in seen)
            assert worker.pid is not None
            seen.add(worker.pid)
            if number == signal.SIGTERM:
                until(lambda: takes_sigterm(worker.pid))
            os.kill(worker.pid, number)
        until(lambda: worker.pid is not None and worker.pid not in seen)
    finally:
        worker.close()
    assert told == [f"the worker of jobs ended ({how}): it is started again"] * 4
