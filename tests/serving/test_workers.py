"""A server's worker that is killed, and a timed job that waits for another to end."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from filelock import FileLock
from working import none_left, project, texts, until, work

from pytest_onnxcheck.cli import main
from pytest_onnxcheck.serve.jobs.embedded import EmbeddedWorker
from pytest_onnxcheck.serve.jobs.queue import open_jobs
from pytest_onnxcheck.serve.jobs.settings import Settings

RELEASED = """
schema = 1
[models.net]
factory = "nets.py:mlp"
exporters = ["torchscript"]
opsets = [17]
precisions = ["fp32"]
dims = { batch = [1, 3] }
latency.dims = []
release = { variant = "torchscript-op17-fp32", version = "1.0" }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""


def test_a_release_is_a_bundle_among_the_jobs_files(tmp_path: Path):
    manifest = project(tmp_path / "project")
    manifest.write_text(RELEASED)
    (manifest.parent / ".gitignore").write_text(".*\n__pycache__\n")
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm a"):
        subprocess.run(["git", *command.split()], cwd=manifest.parent, check=True)
    jobs = open_jobs(manifest)
    good = jobs.submit("release", "net")
    work(jobs)
    (manifest.parent / "nets.py").write_text((manifest.parent / "nets.py").read_text() + "#\n")
    dirty = jobs.submit("release", "net")
    work(jobs)
    good, dirty = jobs.get(good.id), jobs.get(dirty.id)

    assert (good.state, good.error) == ("done", None)
    assert good.result is not None
    assert good.result["verdict"] == "pass"
    folder = jobs.folder(good.id) / good.result["released"]["uri"]
    assert main(["verify", str(folder)]) == 0
    assert any(text.startswith("net::torchscript-op17-fp32  bundle/") for text in texts(jobs, good))

    assert (dirty.state, dirty.result) == ("failed", None)
    assert dirty.error is not None
    assert "nets.py" in dirty.error


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
