"""A server's worker that is killed, and a timed job that waits for another to end."""

from __future__ import annotations

import os
import re
import signal
import tempfile
import time
from pathlib import Path

from filelock import FileLock
from working import none_left, project, texts, until, work

from pytest_onnxcheck.serve.jobs.embedded import EmbeddedWorker
from pytest_onnxcheck.serve.jobs.queue import open_jobs
from pytest_onnxcheck.serve.jobs.settings import Settings


def test_a_timed_job_waits_for_the_machine(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    jobs = open_jobs(project(tmp_path / "project", "crash"))
    job = jobs.submit("benchmark", "net")
    free = jobs.submit("validate", "net")
    name = f"onnxcheck-timed-{os.getuid()}.lock"
    other = FileLock(Path(tempfile.gettempdir()) / name, thread_local=False)
    other.acquire()

    def release() -> None:
        until(lambda: jobs.get(job.id).stage)
        time.sleep(0.5)
        assert jobs.get(job.id).stage.startswith("waiting: another job is being timed")
        other.release()

    work(jobs, during=release)
    said = texts(jobs, job)
    assert said[0] == "waiting: another job is being timed on this machine"
    assert said[1].startswith("benchmark net, by ")
    assert "waiting" not in texts(jobs, free)[0]


def test_a_killed_worker_is_started_again_and_its_job_is_cut_off(tmp_path: Path):
    jobs = open_jobs(project(tmp_path, "orphans"))
    job = jobs.submit("validate", "net")
    after = jobs.submit("validate", "other")
    embedded = EmbeddedWorker(jobs, Settings())
    embedded.start()
    try:
        until((tmp_path / "began").exists)
        (tmp_path / "do").write_text("crash")
        os.kill(embedded.pid, signal.SIGKILL)
        until(lambda: jobs.get(job.id).over)
        job = jobs.get(job.id)
        assert job.state == "cut_off"
        assert re.fullmatch(
            r"It was cut off: its worker \S+:\d+ ended\. Nothing of it was kept but what was "
            r"built: ask for it again, and it goes on from there\.",
            job.error,
        )
        until(lambda: none_left(job))
        until(lambda: jobs.get(after.id).over)
        assert jobs.get(after.id).state == "failed"
    finally:
        embedded.close()
    assert embedded.pid is None
    assert [job.state for job in jobs.all()] == ["failed", "cut_off"]
