"""Jobs are run, each in a child with limits; whatever ends it, its processes end and it is told."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from working import none_left, project, texts, until, work

from pytest_onnxcheck.api.export import ExportedFile
from pytest_onnxcheck.serve.jobs import child, presence, worker
from pytest_onnxcheck.serve.jobs.job import Options
from pytest_onnxcheck.serve.jobs.queue import open_jobs
from pytest_onnxcheck.serve.jobs.settings import Settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="jobs need Linux")


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path_factory, monkeypatch):
    """The lock of timed jobs is there."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("temporary")))


def files(jobs) -> list[str]:
    return sorted(path.name for path in (jobs.files / "jobs").iterdir())


def test_the_same_export_twice_is_one_build_and_a_red_check_is_no_failed_job(tmp_path: Path):
    jobs = open_jobs(project(tmp_path))
    jobs.manifest.write_text(
        jobs.manifest.read_text()
        + "[models.net.budget.fp32]\nmax_size_mb = 0.0001\n"
        + "[models.net.release]\nvariant = 'dynamo-op20-fp32'\n"
    )
    options = Options(exporter="torchscript", opset=17, precisions=("fp32",))
    asked = [jobs.submit("export", "other", options) for _ in range(2)]
    asked.append(jobs.submit("validate", "net", options))
    work(jobs)
    first, again, red = (jobs.get(job.id) for job in asked)

    assert (first.state, first.error, first.progress) == ("done", None, 1.0)
    assert first.result["ok"]
    (file,) = first.result["files"]
    exported = jobs.folder(first.id) / file["path"]
    assert exported.stat().st_size == file["size_bytes"]
    assert "exporting other::torchscript-op17-fp32" in texts(jobs, first)
    # another run with the same folder of artefacts would find it too
    assert (again.state, again.result["files"][0]["files"]) == ("done", file["files"])
    assert len([*(tmp_path / ".onnxcheck/other").glob("*/*/build.json")]) == 1
    assert not [text for text in texts(jobs, again) if text.startswith("exporting")]

    # variants that the manifest does not have; a release of another is no matter here
    assert (red.state, red.result["verdict"], red.error) == ("done", "fail", None)
    (told,) = [each for each in red.result["told"] if each["state"] == "failed"]
    assert "net::torchscript-op17-fp32::test_export" in told["nodeid"]
    assert "0.0001" in told["reason"]
    names = sorted(path.name for path in jobs.folder(red.id).iterdir())
    assert names == ["output.txt", "record.json", "report.html"]
    assert any(re.match(r"net::\S+::test_structure passed", text) for text in texts(jobs, red))
    assert not [*tmp_path.glob(".onnxcheck-*.toml")]
    assert not [*jobs.files.glob("jobs/.building*")]


def test_the_gate_starts_where_warnings_are_errors(tmp_path: Path):
    jobs = open_jobs(project(tmp_path))
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    job = jobs.submit("validate", "net")
    work(jobs)
    job = jobs.get(job.id)
    assert (job.state, job.error) == ("done", None)
    assert job.result["verdict"] == "pass"


@pytest.mark.parametrize(
    "options",
    [Options(), Options(exporter="torchscript", precisions=("fp16",))],
    ids=["as_it_is", "with_a_manifest_of_its_own"],
)
def test_a_job_that_is_cancelled_leaves_no_process_and_no_file(tmp_path: Path, options: Options):
    jobs = open_jobs(project(tmp_path, "orphans"))
    job = jobs.submit("validate", "net", options)

    def cancel() -> None:
        until((tmp_path / "began").exists)
        assert jobs.get(job.id).state == "running"
        assert not none_left(job)
        jobs.cancel(job.id)

    work(jobs, during=cancel)
    job = jobs.get(job.id)
    assert (job.state, job.stage, job.result) == ("cancelled", None, None)
    assert job.error.startswith("It was cancelled")
    assert none_left(job)
    assert files(jobs) == []
    assert not [*tmp_path.glob(".onnxcheck-*.toml")]


@pytest.mark.parametrize(
    ("do", "settings", "text"),
    [
        (
            "hang",
            Settings(timeout=2.0),
            r"It took longer than the 2 s that a job may.*--job-timeout",
        ),
        (
            "eat",
            Settings(memory=300_000_000),
            r"Its processes held 0\.\d+ GB, of the 0\.30 GB",
        ),
        ("crash", Settings(), r"Its process ended \(SIGABRT\)"),
        (
            "exit",
            Settings(),
            r"(?s)Its process ended \(exit status 1\)\.\n.*SystemExit: no licence for this$",
        ),
    ],
)
def test_a_job_that_runs_over_is_ended(tmp_path: Path, do, settings, text):
    jobs = open_jobs(project(tmp_path, do))
    job = jobs.submit("validate", "net")
    work(jobs, settings=settings)
    job = jobs.get(job.id)
    assert job.state == "failed"
    assert re.match(text, job.error)
    assert none_left(job)
    assert texts(jobs, job)[-1] == f"failed: {job.error}"


def test_what_pytest_says_of_a_wrong_project_is_the_error(tmp_path: Path):
    jobs = open_jobs(project(tmp_path))
    job = jobs.submit("validate", "net")
    (tmp_path / "conftest.py").write_text("def broken(:\n")
    work(jobs)
    job = jobs.get(job.id)
    assert job.state == "failed"
    assert job.error.startswith("pytest ended with 4 and made no record:")
    assert "SyntaxError" in job.error


def test_an_export_that_fails_alike_in_several_precisions_says_it_once():
    names = ("fp32", "fp16", "bf16", "int8-static")
    files = [ExportedFile(name, "dynamo", 12, None, error="no opset") for name in names[:2]]
    files.append(ExportedFile(names[2], "dynamo", 12, None, error="no casts"))
    files.append(ExportedFile(names[3], "dynamo", 12, Path("x.onnx")))
    assert child._wrong(files) == "fp32, fp16: no opset\nbf16: no casts"
    assert child._wrong(files[3:]) is None


STAGES = """
import time
from pathlib import Path
from pytest_onnxcheck.progress import stage

with stage("trying", "first"):
    pass
Path(__file__).with_name("began").touch()
time.sleep(1000)
"""


def test_a_stage_that_has_ended_is_not_shown_any_longer(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(worker, "_TELL", 1.0)
    jobs = open_jobs(project(tmp_path))
    (tmp_path / "conftest.py").write_text(STAGES)
    job = jobs.submit("validate", "net")

    def watch() -> None:
        until(lambda: jobs.get(job.id).stage == "trying first")
        until((tmp_path / "began").exists)
        until(lambda: jobs.get(job.id).stage is None, 10)
        jobs.cancel(job.id)

    work(jobs, during=watch)
    assert jobs.get(job.id).error == "It was cancelled."


def test_a_timed_job_does_not_seem_to_wait_once_it_runs(tmp_path: Path):
    jobs = open_jobs(project(tmp_path, "orphans"))
    job = jobs.submit("benchmark", "net")
    lock = FileLock(
        Path(tempfile.gettempdir()) / f"onnxcheck-timed-{os.getuid()}.lock", thread_local=False
    )
    lock.acquire()

    def watch() -> None:
        until(lambda: (jobs.get(job.id).stage or "").startswith("waiting: another job"))
        lock.release()
        until((tmp_path / "began").exists)
        assert jobs.get(job.id).stage is None
        jobs.cancel(job.id)

    work(jobs, during=watch)


def test_a_lock_that_cannot_be_taken_fails_the_job_and_says_so(tmp_path: Path):
    jobs = open_jobs(project(tmp_path, "crash"))
    job = jobs.submit("benchmark", "net")
    path = Path(tempfile.gettempdir()) / f"onnxcheck-timed-{os.getuid()}.lock"
    path.mkdir()
    work(jobs)
    job = jobs.get(job.id)
    assert job.state == "failed"
    assert job.error == (
        f"{path}: the lock of jobs that are timed cannot be taken: Is a directory; remove it, or "
        "start the worker with TMPDIR set to a folder of your own"
    )


def test_an_error_of_the_worker_itself_ends_the_job(tmp_path: Path):
    jobs = open_jobs(project(tmp_path))
    job = jobs.submit("validate", "net")
    work(jobs, settings=Settings(memory={1}))
    job = jobs.get(job.id)
    assert job.state == "failed"
    assert job.error.startswith("Its worker cannot run it: TypeError: ")
    assert "Traceback (most recent call last):" in texts(jobs, job)


def test_an_error_that_nobody_expects_is_told_with_its_traceback(tmp_path: Path):
    jobs = open_jobs(project(tmp_path))
    job = jobs.submit("export", "net", Options(exporter="torchscript", opset=17))
    work(jobs, settings=Settings(artifacts="a\0b"))
    job = jobs.get(job.id)
    assert job.state == "failed"
    assert job.error == (
        "ValueError: embedded null byte\noutput.txt among the job's files has the traceback."
    )
    assert "Traceback" in (jobs.folder(job.id) / "output.txt").read_text()


def test_a_waiting_timed_job_can_be_cancelled(tmp_path: Path):
    jobs = open_jobs(project(tmp_path, "crash"))
    job = jobs.submit("gate", "net")
    with FileLock(Path(tempfile.gettempdir()) / f"onnxcheck-timed-{os.getuid()}.lock"):

        def cancel() -> None:
            until(lambda: jobs.get(job.id).stage)
            jobs.cancel(job.id)

        work(jobs, during=cancel)
    assert jobs.get(job.id).error == "It was cancelled while it waited."


def test_a_worker_that_is_told_to_end_says_of_its_job_that_it_was_cut_off(tmp_path: Path):
    jobs = open_jobs(project(tmp_path, "orphans"))
    job = jobs.submit("validate", "net")
    waits = jobs.submit("validate", "net")
    command = [sys.executable, "-m", "pytest_onnxcheck.cli", "worker", "--manifest", jobs.manifest]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    until((tmp_path / "began").exists)
    process.terminate()
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert said.startswith(f"working off the jobs of {jobs.manifest} in {jobs.store}; Ctrl-C ends")
    assert (jobs.get(job.id).state, jobs.get(waits.id).state) == ("cut_off", "queued")
    assert "was ended" in jobs.get(job.id).error
    assert none_left(job)
    assert files(jobs) == []


def test_a_job_that_was_lost_on_the_way_is_run(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(worker, "_TEND", 0.1)
    jobs = open_jobs(project(tmp_path, "crash"))
    job = jobs.submit("validate", "net")
    assert jobs.huey.dequeue() is not None  # by a worker that was killed before it began with it
    work(jobs)
    assert jobs.get(job.id).state == "failed"


ELSEWHERE = {"name": "there:1", "host": "there", "token": "0" * 16}


@pytest.fixture
def there(tmp_path: Path, monkeypatch) -> Iterator[presence.Presence]:
    """Who looks at others; half a second without a sign of life is long."""
    monkeypatch.setattr(presence, "SILENCE", 0.5)
    monkeypatch.setattr(presence, "_AWAY", 0.4)
    found = presence.Presence(open_jobs(project(tmp_path)))
    yield found
    found.close()


def test_a_worker_elsewhere_is_gone_when_it_has_been_silent(there: presence.Presence):
    there._jobs.say_alive(ELSEWHERE["token"], 7)
    assert not there.gone(ELSEWHERE)
    until(lambda: there.gone(ELSEWHERE))
    there._jobs.say_alive(ELSEWHERE["token"], 8)
    assert not there.gone(ELSEWHERE)
    assert not there.gone(there.known)


def test_nobody_is_gone_because_the_store_was_away(there: presence.Presence):
    there._jobs.say_alive(ELSEWHERE["token"], 7)
    assert not there.gone(ELSEWHERE)
    time.sleep(1.0)  # nothing can be read, nor said
    assert not there.gone(ELSEWHERE)
    there._jobs.say_alive(ELSEWHERE["token"], 8)
    assert not there.gone(ELSEWHERE)


def test_a_lock_that_cannot_be_opened_tells_nothing(there: presence.Presence):
    here = {**ELSEWHERE, "host": there.known["host"]}
    path = there._jobs.files / "workers" / f"{here['token']}.lock"
    shutil.copy(str(shutil.which("sleep")), path)
    with subprocess.Popen([path, "1000"]) as running:  # which nobody may write to, root neither
        try:
            there._jobs.say_alive(here["token"], 7)
            assert not there.gone(here)
            until(lambda: there.gone(here))
        finally:
            running.kill()
