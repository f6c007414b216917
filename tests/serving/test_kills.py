"""A server, or its worker, is killed at random moments: what was finished stays, the rest is told.

`ONNXCHECK_KILLS=100` for more kills, `ONNXCHECK_KILLS_SEED=2` for other moments.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import onnx
from working import none_left, project, until

from pytest_onnxcheck.api.cache import verify
from pytest_onnxcheck.descendants import _marked
from pytest_onnxcheck.serve.jobs.job import Job, Options
from pytest_onnxcheck.serve.jobs.queue import Jobs, open_jobs

KILLS = int(os.environ.get("ONNXCHECK_KILLS", "20"))
SEED = int(os.environ.get("ONNXCHECK_KILLS_SEED", "1"))
#: seconds after a job has begun, within which it is killed
MOMENTS = (0.0, 10.0)


def start(jobs: Jobs) -> subprocess.Popen[bytes]:
    """A server as users start it, once it says where it is."""
    command = [sys.executable, "-m", "pytest_onnxcheck.cli", "serve", "--api", "--port", "0"]
    environ = {**os.environ, "SERVER_OF": str(jobs.manifest)}
    said = jobs.manifest.parent / "said"
    with said.open("wb") as file:
        process = subprocess.Popen(command, stderr=file, env=environ, cwd=jobs.manifest.parent)
    until(lambda: "http://" in said.read_text())
    return process


def worker_of(server: subprocess.Popen[bytes]) -> int | None:
    for path in Path("/proc").glob("[0-9]*/status"):
        try:
            if f"\nPPid:\t{server.pid}\n" in path.read_text():
                return int(path.parent.name)
        except OSError:
            continue
    return None


def ask(jobs: Jobs, number: int) -> Job:
    """Asks for an export that nobody has asked for before, so that there is something to build."""
    options = Options(
        exporter="torchscript", opset=13 + number % 5, precisions=("fp32", "int8-dynamic")
    )
    return jobs.submit("export", ("net", "other")[number % 2], options)


def whole(jobs: Jobs, job: Job) -> int:
    """Holds the files of a job against its result; how many there are."""
    assert job.result is not None
    for file in job.result["files"]:
        data = (jobs.folder(job.id) / file["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == file["files"][0]["sha256"]
    return len(job.result["files"])


def test_kills(tmp_path: Path):
    moments = random.Random(SEED)
    jobs = open_jobs(project(tmp_path / "project"))
    done: dict[str, Job] = {}
    killed = Counter[str]()
    number = 0
    server = start(jobs)
    try:
        for kill in range(KILLS):
            while sum(not job.over for job in jobs.all()) < 2:
                ask(jobs, number)
                number += 1
            until(lambda: any(job.state == "running" for job in jobs.all()), 120)
            time.sleep(moments.uniform(*MOMENTS))
            done |= {job.id: job for job in jobs.all(limit=1000) if job.state == "done"}
            who = ("server", "worker")[kill % 2]
            pid = server.pid if who == "server" else worker_of(server)
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
                killed[who] += 1
            if who == "server":
                server.wait()
                server = start(jobs)
        until(lambda: all(job.over for job in jobs.all(limit=1000)), 300)
    finally:
        server.terminate()
        server.wait(60)
    until(lambda: not _marked(f"SERVER_OF={jobs.manifest}".encode()))

    ended = jobs.all(limit=1000)
    states = Counter(job.state for job in ended)
    assert len(ended) == number
    for before in done.values():  # what was finished once is so still
        assert jobs.get(before.id) == before
    files = sum(whole(jobs, job) for job in ended if job.state == "done")
    for job in ended:
        assert job.state in ("done", "cut_off"), job
        assert none_left(job)
        if job.state == "cut_off":
            assert job.error is not None
            assert job.error.startswith("It was cut off: its worker ")
            assert job.ended is not None
    # and what lies about is whole, though nobody was told of it
    for path in jobs.files.glob("jobs/*/*.onnx"):
        onnx.checker.check_model(onnx.load(path))
    assert not [*jobs.files.glob("jobs/.building*")]
    verified = verify(str(tmp_path / "project" / ".onnxcheck"))
    assert verified.damaged == {}
    print(
        f"\n{sum(killed.values())} kills ({killed['server']} of the server, {killed['worker']} of "
        f"its worker): {number} jobs, {states['done']} done with {files} whole files, "
        f"{states['cut_off']} cut off and told; {verified.count} builds, none damaged"
    )
