"""A project whose jobs do as they are told, without torch, and a worker that works them off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from project import NETS, mlps

from pytest_onnxcheck.descendants import _marked
from pytest_onnxcheck.serve.jobs.job import Job
from pytest_onnxcheck.serve.jobs.queue import Jobs
from pytest_onnxcheck.serve.jobs.settings import Settings
from pytest_onnxcheck.serve.jobs.worker import Worker

#: what a validation does before it collects: the words in the file `do`
CONFTEST = """
import os, subprocess, sys, time
from pathlib import Path

here = Path(__file__).parent
what = (here / "do").read_text()
if what in ("hang", "orphans"):
    if what == "orphans":
        subprocess.Popen(["sleep", "1000"], start_new_session=True)
    (here / "began").touch()
    time.sleep(1000)
if what == "eat":
    held = []
    while True:
        held.append(bytearray(b"x") * 2**22)
if what == "exit":
    sys.exit("no licence for this")
if what == "crash":
    os.abort()
"""


def project(folder: Path, do: str = "nothing") -> Path:
    """Writes a project, and gives its manifest."""
    folder.mkdir(exist_ok=True)
    (folder / "nets.py").write_text(NETS)
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "do").write_text(do)
    manifest = folder / "models.toml"
    manifest.write_text("schema = 1\n" + mlps("net", "other"))
    return manifest


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    """Waits until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


def work(
    jobs: Jobs,
    *,
    settings: Settings | None = None,
    during: Callable[[], object] = lambda: None,
) -> None:
    """Works until all jobs have ended, and `during` has.

    Args:
        jobs: The jobs.
        settings: What they are held to.
        during: What is done meanwhile.
    """
    worker = Worker(jobs, settings or Settings())
    failed: list[BaseException] = []

    def watch() -> None:
        try:
            during()
            until(lambda: all(job.over for job in jobs.all()))
        except BaseException as error:
            failed.append(error)
        worker.stop()

    watching = threading.Thread(target=watch)
    watching.start()
    worker.run()
    watching.join()
    if failed:
        raise failed[0]


def none_left(job: Job) -> bool:
    """Whether no process of a job is left."""
    return not _marked(f"ONNXCHECK_JOB={job.id}".encode())


def texts(jobs: Jobs, job: Job) -> list[str]:
    """What the lines of a log say."""
    return [line.text for line in jobs.lines(job.id)]
