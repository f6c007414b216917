"""What may be asked for, and how it is found again."""

from __future__ import annotations

import json
import pickle
import re
import sqlite3
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from working import project

from pytest_onnxcheck.cli import main
from pytest_onnxcheck.serve.jobs import queue
from pytest_onnxcheck.serve.jobs.job import JobError, NoSuchJob, Options, QueueFullError
from pytest_onnxcheck.serve.jobs.queue import Jobs, open_jobs
from pytest_onnxcheck.serve.jobs.settings import Settings
from pytest_onnxcheck.serve.jobs.store import StoreError, without_password
from pytest_onnxcheck.serve.jobs.worker import Worker


@pytest.fixture
def jobs(tmp_path: Path) -> Jobs:
    return open_jobs(project(tmp_path))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"opset": 99}, "opset: 99 is not a number from 9 to 30"),
        ({"opset": True}, "opset: True is not a number from 9 to 30"),
        ({"exporter": "onnx"}, "exporter: 'onnx' is not one of dynamo, torchscript"),
        ({"precisions": ("fp8",)}, "precisions: 'fp8' is not one of fp32, fp16, bf16, half, int8-"),
        ({"batch_size": 0}, "batch_size: 0 is not a number from 1 to 1048576"),
        ({"dynamic": "no"}, "dynamic: 'no' is not true or false"),
        ({"checkpoint": " "}, "checkpoint: is empty: name a file, or leave it out"),
        ({"checkpoint": "a\0b"}, "checkpoint: a path has no NUL in it"),
        ({"checkpoint": 3}, "checkpoint: 3 is not a path"),
    ],
)
def test_options_that_make_no_sense(options, text):
    with pytest.raises(JobError) as refused:
        Options(**options)
    assert str(refused.value).startswith(text)


@pytest.mark.parametrize(
    ("kind", "model", "options", "text"),
    [
        ("exprot", "net", {}, "'exprot' is no kind of job (did you mean 'export'?): export, val"),
        ("export", "nett", {}, "models.toml has no model 'nett' (did you mean 'net'?): it has net"),
        ("export", "../net", {}, "models.toml has no model '../net'"),
        ("gate", "net", {"dynamic": False}, "dynamic = false: only an export can have it; gate "),
        ("gate", "net", {"batch_size": 2}, "batch_size: only an export can have it"),
        ("release", "net", {"opset": 20}, "a release takes the model as the manifest has it"),
        ("release", "net", {}, "net is not released: write a table [models.net.release] into m"),
        ("export", "net", {"checkpoint": "do.pt"}, "checkpoint: not found: "),
    ],
)
def test_jobs_that_cannot_be(jobs: Jobs, kind, model, options, text):
    with pytest.raises(JobError) as refused:
        jobs.submit(kind, model, Options(**options))
    assert str(refused.value).startswith(text)
    assert jobs.all() == []


def test_jobs_are_found_again_newest_first_by_another_process_too(jobs: Jobs):
    asked = [jobs.submit("export", "net"), jobs.submit("gate", "other"), jobs.submit("gate", "net")]
    other = open_jobs(jobs.manifest)
    assert other.all() == asked[::-1]
    assert other.all(model="net") == [asked[2], asked[0]]
    assert other.all(limit=1) == [asked[2]]
    assert other.get(asked[1].id) == asked[1]
    assert asked[0].state == "queued"
    assert not asked[0].over
    assert json.loads(json.dumps(asked[0].to_json()))["options"]["precisions"] == []


def test_more_jobs_than_are_read_at_once(jobs: Jobs):
    for _ in range(230):
        jobs._append("asked", lambda place: {**asked, "id": f"{place}-0", "model": "net"})
    assert [job.id for job in open_jobs(jobs.manifest).all(limit=1000)] == [
        f"{place}-0" for place in range(230, 0, -1)
    ]
    assert [number for number, *_ in jobs.unfinished(100)] == list(range(100, 231))


asked = {"kind": "export", "options": Options().to_json(), "created": "2026-12-01T00:00:00+00:00"}


def test_many_threads_ask_at_once(jobs: Jobs):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(jobs.submit("gate", "net").id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job.id for job in jobs.all()) == sorted(found)
    assert len(jobs.huey.pending()) == 8


@pytest.mark.parametrize(
    "name", ["", "1", "0-0", "99-abc", "1-wrong", "../1", "\u0661-a", "9" * 40]
)
def test_no_job_has_this_id(jobs: Jobs, name):
    jobs.submit("export", "net")
    for asked in (jobs.get, jobs.lines, jobs.folder, jobs.cancel):
        with pytest.raises(NoSuchJob, match="no job has the id"):
            asked(name)


def test_lines_are_numbered_without_a_gap(jobs: Jobs):
    job = jobs.submit("export", "net")
    for place in range(250):
        jobs.log(1, f"line {place}" + "x" * 3000 * (place == 7))
    lines = open_jobs(jobs.manifest).lines(job.id)
    assert [line.number for line in lines] == list(range(1, 251))
    assert len(lines[7].text) == 2000
    assert lines[0].time.endswith("+00:00")
    assert [line.text for line in jobs.lines(job.id, after=248)] == ["line 248", "line 249"]


def test_a_job_that_waits_is_cancelled_at_once_and_stays_so(jobs: Jobs):
    job = jobs.cancel(jobs.submit("export", "net").id)
    assert (job.state, job.error) == ("cancelled", "It was cancelled before it began.")
    assert jobs.cancel(job.id) == job
    assert not jobs.begin(1, {"name": "host:1", "host": "host", "token": "a"})
    assert not jobs.end(1, "done")


def test_a_job_that_is_cancelled_while_a_worker_takes_it_never_ran(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
):
    job = jobs.submit("export", "net")
    storage = type(jobs.huey.storage)
    has = storage.has_data_for_key

    def cancelled_then(self: Any, key: Any) -> Any:
        found = has(self, key)
        if not found:  # between this look and what the worker writes
            monkeypatch.setattr(storage, "has_data_for_key", has)
            jobs.cancel(job.id)
            time.sleep(0.002)
        return found

    monkeypatch.setattr(storage, "has_data_for_key", cancelled_then)
    assert not jobs.begin(1, {"name": "host:1", "host": "host", "token": "a"})
    found = jobs.several([job.id])[job.id]
    assert (found.state, found.started, found.worker) == ("cancelled", None, None)
    anew = open_jobs(jobs.manifest).get(job.id)
    assert (anew.state, anew.started, anew.worker) == ("cancelled", None, None)


def test_as_many_jobs_wait_as_may(jobs: Jobs):
    assert jobs.most_waiting == 100
    jobs.most_waiting = 3
    for _ in range(2):
        jobs.submit("export", "net")
    jobs.submit("gate", "other")
    with pytest.raises(QueueFullError) as refused:
        jobs.submit("export", "net")
    assert str(refused.value) == (
        "the queue is full (3 of 3 places): ask again when a job has begun, or cancel one"
    )
    assert len(jobs.all()) == len(jobs.huey.pending()) == 3
    assert jobs.begin(1, {"name": "host:1", "host": "host", "token": "a"})
    assert jobs.submit("export", "net").state == "queued"


def test_as_many_wait_as_may_who_ask_at_once(jobs: Jobs, monkeypatch: pytest.MonkeyPatch):
    jobs.most_waiting = 3
    count = jobs.count

    def slow() -> int:
        time.sleep(0.1)  # between the look at who waits and the job
        return count()

    monkeypatch.setattr(jobs, "count", slow)

    def ask(_: int) -> str:
        try:
            return jobs.submit("export", "net").state
        except QueueFullError:
            return "refused"

    with ThreadPoolExecutor(12) as threads:
        found = sorted(threads.map(ask, range(12)))
    assert found == ["queued"] * 3 + ["refused"] * 9
    assert len(jobs.all()) == 3


def test_a_job_that_was_asked_for_while_another_looked_is_looked_at_the_next_time(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
):
    worker = Worker(jobs, Settings())
    looked = jobs.unfinished

    def unfinished(first: int):
        found = looked(first)
        monkeypatch.undo()
        jobs.submit("export", "net")
        return found

    monkeypatch.setattr(jobs, "unfinished", unfinished)
    worker._tend()
    assert worker._first == 1


def test_a_job_that_has_ended_is_not_read_again(jobs: Jobs):
    first, second = (jobs.submit("export", "net") for _ in range(2))
    other = open_jobs(jobs.manifest)
    jobs.end(1, "done", result={"ok": True})
    ended = other.get(first.id)
    assert (ended.state, ended.result) == ("done", {"ok": True})
    assert not other.begin(1, {"name": "host:1", "host": "host", "token": "a"})
    assert other.get(first.id) is other.all()[1] is ended
    jobs.tell(2, "exporting", 0.5)
    assert other.get(second.id).state == "queued"
    assert other.begin(2, {"name": "host:1", "host": "host", "token": "a"})
    assert [job.stage for job in other.all()] == ["exporting", None]
    assert open_jobs(jobs.manifest).all() == other.all()


def test_the_jobs_that_are_kept_in_memory_are_bounded(jobs: Jobs, monkeypatch):
    monkeypatch.setattr(queue, "_KEPT", 5)
    for number in range(1, 21):
        jobs._append("asked", lambda place: {**asked, "id": f"{place}-0", "model": "net"})
        jobs.end(number, "done")
    assert [job.id for job in jobs.all()] == [f"{number}-0" for number in range(20, 0, -1)]
    assert jobs.get("7-0").state == "done"
    # the newest, which every look meets
    assert sorted(jobs._over) == [16, 17, 18, 19, 20]


def test_one_worker_alone_gets_a_job(jobs: Jobs):
    jobs.submit("export", "net")
    assert jobs.begin(1, {"name": "host:1", "host": "host", "token": "a"})
    assert not jobs.begin(1, {"name": "host:2", "host": "host", "token": "b"})
    assert jobs.all()[0].worker == "host:1"


def test_nothing_in_the_store_is_a_pickle(jobs: Jobs):
    jobs.submit("export", "net")
    rows = sqlite3.connect(jobs.store).execute("select data from task union select value from kv")
    kept = [bytes(row[0]) for row in rows]
    assert len(kept) == 2
    for data in kept:
        json.loads(data)
    with pytest.raises(ValueError, match="Expecting value"):
        jobs.huey.serializer.deserialize(pickle.dumps(0, 0))


@pytest.mark.parametrize(
    ("store", "text"),
    [
        ("redis://:geheim@127.0.0.1:1/0", "redis://127.0.0.1:1/0: Redis does not answer as it"),
        ("mysql://me:geheim@host/db", "mysql://host/db: is no store of jobs: name a file, or red"),
        ("redis://:ge/heim@host:6379/0", "is no address of a store: write redis://:PASSWORD@HO"),
        ("/proc/no/jobs.db", "/proc/no/jobs.db: the jobs cannot be read or written: "),
    ],
)
def test_a_store_that_is_not_reached(tmp_path: Path, capsys, store, text):
    manifest = project(tmp_path)
    with pytest.raises(StoreError) as failed:
        open_jobs(manifest, store=store)
    assert text in str(failed.value)
    assert "heim" not in str(failed.value)
    assert main(["worker", "--manifest", str(manifest), "--store", store]) == 1
    said = capsys.readouterr().err
    assert text in said
    assert "heim" not in said


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("redis://me:geheim@host:6379/1?x=geheim", "redis://host:6379/1"),
        ("redis://host:6379/1?password=geheim", "redis://host:6379/1"),
        ("rediss://:ge@he:im@[::1]:6379/1", "rediss://[::1]:6379/1"),
        ("redis://host", "redis://host"),
        ("redis://host:6379/1?password=ge@heim", "an address"),
        ("redis://:4711/heim@host:6379/0", "an address"),
        ("redis://me:4711/0?heim@host:6379/0", "an address"),
        ("redis://me:4711#heim@host:6379/0", "an address"),
        ("redis://:geheim", "an address"),
        ("redis:/:geheim@host:6379/0", "an address"),
        ("redis::geheim", "an address"),
        ("me:geheim@host:6379", "an address"),
        ("me:ge/heim@host:6379/0", "an address"),
        ("/data/me@work/jobs.db", "/data/me@work/jobs.db"),
    ],
)
def test_a_password_is_not_shown(tmp_path: Path, monkeypatch, store, shown):
    assert without_password(store) == shown
    if shown == "an address":
        monkeypatch.chdir(tmp_path)
        with pytest.raises(StoreError) as refused:
            open_jobs(project(tmp_path), store=store)
        told = "".join(traceback.format_exception(refused.value))
        assert "an address: is no address of a store: write redis://:PASSWORD@" in told
        assert not re.search("geheim|heim|4711", told)


def test_a_wrong_manifest_is_told_of_when_a_job_is_asked_for(jobs: Jobs):
    jobs.manifest.write_text("schema = 1\n[models.net]\nfactroy = 3\n")
    with pytest.raises(Exception, match=r"models.toml:3: .*factroy"):
        jobs.submit("export", "net")
