"""Two workers against a real Redis: every job is run once, whatever becomes of one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving.redis_server import RedisServer
from working import none_left, project, texts, until

from pytest_onnxcheck.cli import main
from pytest_onnxcheck.serve.jobs import presence
from pytest_onnxcheck.serve.jobs.job import Options
from pytest_onnxcheck.serve.jobs.queue import Jobs, open_jobs
from pytest_onnxcheck.serve.jobs.store import StoreError

EXPORT = Options(exporter="torchscript", opset=17, precisions=("fp32", "int8-dynamic"))


class Workers:
    """Workers of a manifest, each `onnxcheck worker` with a folder of its own."""

    def __init__(self, jobs: Jobs, remote: Path) -> None:
        self._jobs, self._remote = jobs, remote
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pytest_onnxcheck.cli", "worker", *options]
        command += ["--manifest", str(self._jobs.manifest), "--cache-remote", self._remote.as_uri()]
        environ = {**os.environ, "ONNXCHECK_STORE": self._jobs.store}
        process = subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process


@pytest.fixture
def jobs(tmp_path: Path, redis: RedisServer) -> Jobs:
    return open_jobs(project(tmp_path / "project"), store=redis.url)


@pytest.fixture
def workers(tmp_path: Path, jobs: Jobs) -> Iterator[Workers]:
    found = Workers(jobs, tmp_path / "remote")
    yield found
    for process in found.processes:
        process.terminate()
    for process in found.processes:
        with process:  # closes its pipe
            process.wait(30)


def over(jobs: Jobs) -> bool:
    return all(job.over for job in jobs.all())


def test_two_workers_share_the_jobs_and_the_builds(jobs: Jobs, workers: Workers, tmp_path: Path):
    asked = [jobs.submit("export", name, EXPORT) for name in ("net", "other") * 4]
    for name in ("a", "b"):  # two machines: nothing is shared but Redis and the remote
        workers.start("--artifacts", str(tmp_path / name))
    until(lambda: over(jobs), 300)
    ended = [jobs.get(job.id) for job in asked]
    assert [job.error for job in ended] == [None] * 8
    who = {job.worker for job in ended}
    assert len(who) == 2
    for job in ended:
        assert sum(text.startswith("export ") for text in texts(jobs, job)) == 1
    built = [text for job in ended for text in texts(jobs, job) if text.startswith("exporting ")]
    kept = len([*tmp_path.glob("remote/entries/*.json")])
    print(f"8 exports by {len(who)} workers: {len(built)} exported, {kept} builds kept in all")
    assert kept == 4  # two models, two precisions
    assert len(built) <= 4  # both may begin with one model at once
    for process in workers.processes:
        process.terminate()
        said, _ = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "geheim" not in said


def test_a_killed_worker_loses_nothing_but_what_it_ran(jobs: Jobs, workers: Workers):
    folder = jobs.manifest.parent
    (folder / "do").write_text("orphans")
    first = jobs.submit("validate", "net")
    killed = workers.start()
    until((folder / "began").exists)
    (folder / "do").write_text("crash")
    behind = [jobs.submit("validate", "net") for _ in range(2)]
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert jobs.get(first.id).state == "running"
    workers.start()
    until(lambda: over(jobs), 120)
    assert jobs.get(first.id).state == "cut_off"
    assert "It was cut off: its worker " in jobs.get(first.id).error
    assert [jobs.get(job.id).state for job in behind] == ["failed"] * 2
    assert none_left(first)


def test_a_running_job_is_cancelled_from_elsewhere(jobs: Jobs, workers: Workers):
    (jobs.manifest.parent / "do").write_text("orphans")
    job = jobs.submit("validate", "net")
    workers.start()
    until((jobs.manifest.parent / "began").exists)
    open_jobs(jobs.manifest, store=jobs.store).cancel(job.id)
    until(lambda: over(jobs))
    assert jobs.get(job.id).state == "cancelled"
    assert none_left(job)


def test_a_redis_that_is_away_for_a_while_loses_no_job(
    jobs: Jobs, workers: Workers, redis: RedisServer, capsys: pytest.CaptureFixture[str]
):
    asked = [jobs.submit("export", "net", EXPORT) for _ in range(2)]
    workers.start()
    until(lambda: jobs.get(asked[0].id).stage)
    redis.stop()
    assert main(["worker", "--manifest", str(jobs.manifest), "--store", redis.url]) == 1
    said = capsys.readouterr().err
    assert f"redis://127.0.0.1:{redis.port}/0: Redis does not answer as it should" in said
    assert "geheim" not in said
    redis.start()
    until(lambda: over(jobs), 120)
    assert [jobs.get(job.id).state for job in asked] == ["done"] * 2


def test_nobody_elsewhere_is_gone_because_redis_was_away(
    jobs: Jobs, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(presence, "SILENCE", 2.0)
    monkeypatch.setattr(presence, "_AWAY", 1.0)
    there = presence.Presence(jobs)
    other = {"name": "there:1", "host": "there", "token": "0" * 16}
    jobs.say_alive(other["token"], 1)
    assert not there.gone(other)
    redis.stop()
    time.sleep(3.0)
    with pytest.raises(StoreError):
        there.gone(other)
    redis.start()
    assert not there.gone(other)
    until(lambda: there.gone(other))
    there.close()
