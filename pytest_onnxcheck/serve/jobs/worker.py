"""Works off the jobs of a manifest, one after the other, each in a process that it can end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_onnxcheck.descendants import end_marked
from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.files import building
from pytest_onnxcheck.places import ARTEFACTS
from pytest_onnxcheck.processes import Child, CrashError
from pytest_onnxcheck.serve.jobs.job import Job, JobError, last_words
from pytest_onnxcheck.serve.jobs.manifests import job_manifest
from pytest_onnxcheck.serve.jobs.presence import Presence
from pytest_onnxcheck.serve.jobs.queue import Jobs, open_jobs
from pytest_onnxcheck.serve.jobs.settings import Settings
from pytest_onnxcheck.serve.jobs.store import StoreError
from pytest_onnxcheck.supervised.limits import Death

__all__ = ["TIMED", "Worker", "main", "refuse_other_systems"]

#: kinds of jobs that measure time: one at once on a machine
TIMED = ("benchmark", "gate", "release")

#: seconds between two looks: whether a job is to be cancelled, at other workers, at the lock
_LOOK, _TEND = 0.25, 3.0
#: seconds between two times that a stage is told
_TELL = 0.2
#: seconds that the processes of a job have to be gone
_END = 15.0
#: in the environment of a job's processes, by which what a killed worker left is found
_MARK = "ONNXCHECK_JOB"


def refuse_other_systems() -> None:
    """Looks whether a worker can be started here.

    Raises:
        JobError: This is not Linux.
    """
    if sys.platform != "linux":
        raise JobError(
            "jobs are run on Linux alone, which can end all processes of a job: start onnxcheck "
            "worker there, and onnxcheck serve --no-worker here, with a --store that both reach"
        )


@dataclass(frozen=True)
class _End:
    """How a job ended."""

    state: str
    result: Mapping[str, Any] | None = None
    error: str | None = None


class Worker:
    """What runs jobs. It belongs to the main thread.

    Args:
        jobs: The jobs.
        settings: What they are held to.

    Raises:
        JobError: This is not Linux.
    """

    def __init__(self, jobs: Jobs, settings: Settings) -> None:
        refuse_other_systems()
        self._jobs = jobs
        artifacts = settings.artifacts or str(jobs.manifest.parent / ARTEFACTS)
        self._settings = replace(settings, artifacts=artifacts)
        self._stop = threading.Event()
        self._presence = Presence(jobs)
        self._next_look = 0.0
        #: the job that is run, or is being taken
        self._current: int | None = None
        #: below this number every job has ended
        self._first = 1
        #: jobs that were waiting, and not in the queue, when this was last looked at
        self._lost: set[int] = set()
        jobs.perform = self._perform
        # what huey logs of a job is in the job's own log
        logging.getLogger("huey").setLevel(logging.CRITICAL)

    def stop(self) -> None:
        """Ends the job that runs, and then the worker; may be called from anywhere."""
        self._stop.set()

    def run(self) -> None:
        """Works until it is stopped."""
        from huey.consumer import Worker as Consumer

        self._jobs.folders.mkdir(parents=True, exist_ok=True)
        consumer = Consumer(self._jobs.huey, self._stop, 0.1, 1.0, 1.15)
        try:
            while not self._stop.is_set():
                self._look_around()
                consumer.loop()
        finally:
            self._presence.close()

    def _perform(self, number: int) -> None:
        """Runs a job, unless another worker does, or it was cancelled."""
        self._current = number
        try:
            job = self._jobs.numbered(number)
            if job is None or not self._jobs.begin(number, self._presence.known):
                return
            ended = self._ended(number, job)
            self._log(number, _last_line(ended))
            while True:  # what was found must not be lost because the store is away
                with contextlib.suppress(StoreError):
                    self._jobs.end(number, ended.state, result=ended.result, error=ended.error)
                    return
                if self._stop.wait(1.0):
                    return
        finally:
            self._current = None

    def _ended(self, number: int, job: Job) -> _End:
        """Runs a job; whatever goes wrong is the job's end, and told."""
        try:
            return self._in_turn(number, job)
        except OnnxCheckError as error:
            return _End("failed", error=str(error))
        except Exception as error:
            for line in traceback.format_exc().splitlines():
                self._log(number, line)
            said = f"{type(error).__name__}: {error}"
            return _End("failed", error=f"Its worker cannot run it: {said}")

    def _in_turn(self, number: int, job: Job) -> _End:
        """Runs a job when no other timed one runs on this machine, if it is one."""
        if job.kind not in TIMED:
            return self._run(number, job)
        with _one_at_a_time() as lock:
            told = False
            while not lock():
                if not told:
                    told = True
                    text = "waiting: another job is being timed on this machine"
                    self._tell(number, text, None)
                    self._log(number, text)
                self._look_around()
                if self._stop.wait(_LOOK):
                    return self._cut_off(job, None, None)
                if self._cancelled(number):
                    return _End("cancelled", error="It was cancelled while it waited.")
            if told:
                self._tell(number, None, None)
            return self._run(number, job)

    def _run(self, number: int, job: Job) -> _End:
        self._log(number, f"{job.kind} {job.model}, by {self._presence.known['name']}")
        home = self._jobs.folders
        try:
            with building(home) as folder:
                ended = self._watched(number, job, folder)
                if ended.state in ("done", "failed"):
                    folder.rename(home / job.id)
                return ended
        except OSError as error:
            return _End("failed", error=f"{home}: cannot be written to: {error}")

    def _watched(self, number: int, job: Job, folder: Path) -> _End:
        """Runs a job in a child, and ends that when it must be."""
        settings = self._settings
        seconds = {} if settings.timeout is None else {"*": settings.timeout}
        child = Child(
            *("-m", "pytest_onnxcheck.serve.jobs.child"),
            folder=self._jobs.manifest.parent,
            patience=_END,
            environment={**os.environ, _MARK: job.id},
        )
        stage: str | None = None
        share: float | None = None
        told, shown = 0.0, (stage, share)
        seen: set[str] = set()
        found: dict[str, Any] = {}
        try:
            child.send(
                {
                    "run": job.id,
                    "limits": {"seconds": seconds, "memory": settings.memory},
                    "kind": job.kind,
                    "model": job.model,
                    "options": job.options.to_json(),
                    "manifest": str(self._jobs.manifest),
                    "folder": str(folder),
                    "settings": settings.to_json(),
                }
            )
            while True:
                self._look_around()
                message = child.poll(_LOOK)
                if self._stop.is_set():
                    return self._cut_off(job, stage, share)
                if self._cancelled(number):
                    return _End("cancelled", error=f"It was cancelled{_while(stage)}.")
                message = message or {}
                if "line" in message:
                    self._log(number, message["line"])
                stage = message.get("now", stage)
                if stage is not None and stage not in seen:
                    seen.add(stage)
                    self._log(number, stage)
                share = message.get("share", share)
                if (stage, share) != shown and time.monotonic() - told > _TELL:
                    told, shown = time.monotonic(), (stage, share)
                    self._tell(number, stage, share)
                if "result" in message:
                    found = message
                if "died" in message:
                    death = Death.from_json(message["died"])
                    return _died(death, settings, stage, last_words(folder))
                if "done" in message:
                    error = found["error"]
                    return _End("failed" if error else "done", found["result"], error)
        except CrashError as error:
            said = "".join(f"\n{line}" for line in error.stderr_tail)
            return _End("failed", error=f"Its process ended ({error.how}){_while(stage)}.{said}")
        finally:
            child.close()
            end_marked(f"{_MARK}={job.id}")
            # who is ended takes nothing away with it
            job_manifest(self._jobs.manifest, job.id).unlink(missing_ok=True)

    def _cancelled(self, number: int) -> bool:
        with contextlib.suppress(StoreError):
            return self._jobs.stopped(number)
        return False

    def _tell(self, number: int, stage: str | None, share: float | None) -> None:
        with contextlib.suppress(StoreError):  # it goes on without being told of
            self._jobs.tell(number, stage, share)

    def _log(self, number: int, text: str) -> None:
        with contextlib.suppress(StoreError):
            self._jobs.log(number, text)

    def _cut_off(self, job: Job, stage: str | None, share: float | None) -> _End:
        mine = replace(job, worker=self._presence.known["name"])
        return _End("cut_off", error=_cut_off_text(mine, "was ended", stage, share))

    def _look_around(self) -> None:
        """Says that this worker lives, and looks for what others left when they ended."""
        with contextlib.suppress(StoreError):
            self._presence.beat()
            if time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + _TEND
                self._tend()

    def _tend(self) -> None:
        """Says of jobs whose worker is gone that they were cut off; queues anew what is lost."""
        jobs = self._jobs
        last = jobs.count()  # before: what is asked for meanwhile is looked at the next time
        unfinished = jobs.unfinished(self._first)
        self._first = min([number for number, *_ in unfinished], default=last + 1)
        for number, job, worker in unfinished:
            if worker is not None and self._gone(worker, number):
                if worker["host"] == self._presence.known["host"]:
                    end_marked(f"{_MARK}={job.id}")
                text = _cut_off_text(job, "ended", job.stage, job.progress)
                if jobs.end(number, "cut_off", error=text):
                    jobs.log(number, text)
                job_manifest(jobs.manifest, job.id).unlink(missing_ok=True)
        waiting = {number for number, _, worker in unfinished if worker is None}
        queued = jobs.queued() if waiting else set()
        lost, self._lost = self._lost, waiting - queued
        for number in sorted(lost & self._lost):
            jobs.enqueue(number)

    def _gone(self, worker: Mapping[str, Any], number: int) -> bool:
        """Whether nobody runs a job any more; not this one either, if the store was away then."""
        if worker["token"] == self._presence.known["token"]:
            return number != self._current
        return self._presence.gone(worker)


def _while(stage: str | None) -> str:
    return "" if stage is None else f" while {stage}"


def _last_line(ended: _End) -> str:
    return ended.state if ended.error is None else f"{ended.state}: {ended.error}"


def _cut_off_text(job: Job, how: str, stage: str | None, share: float | None) -> str:
    done = "" if share is None else f", {share:.0%} done"
    return (
        f"It was cut off: its worker {job.worker} {how}{_while(stage)}{done}. Nothing of it was "
        "kept but what was built: ask for it again, and it goes on from there."
    )


def _died(death: Death, settings: Settings, stage: str | None, said: Iterable[str]) -> _End:
    """Why a job's process was ended, or how it ended."""
    where = f" ({death.where})" if death.where else ""
    at = f"{_while(stage)}{where}"
    if death.how == "time":
        return _End(
            "failed",
            error=f"It took longer than the {settings.timeout:g} s that a job may take{at}: ask "
            "for less, or start the worker with a longer --job-timeout.",
        )
    if death.how == "memory":
        assert settings.memory is not None
        return _End(
            "failed",
            error=f"Its processes held {death.held / 1e9:.2f} GB, of the "
            f"{settings.memory / 1e9:.2f} GB that a job may hold{at}: ask for less, or start the "
            "worker with a larger --job-memory.",
        )
    return _End("failed", error="\n".join([f"Its process ended ({death.how}){at}.", *said]))


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[Any]:
    """What takes the machine's lock for timed jobs, and says whether it has it."""
    from filelock import FileLock, Timeout

    path = Path(tempfile.gettempdir()) / f"onnxcheck-timed-{os.getuid()}.lock"
    lock = FileLock(path)

    def taken() -> bool:
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        except OSError as error:
            raise JobError(
                f"{path}: the lock of jobs that are timed cannot be taken: "
                f"{error.strerror or error}; remove it, or start the worker with TMPDIR set to a "
                "folder of your own"
            ) from error
        return True

    try:
        yield taken
    finally:
        lock.release(force=True)


def main() -> None:
    """The worker of a server: ends with it, when its input does."""
    line = sys.stdin.readline()
    if not line:  # the server has ended meanwhile
        return
    start = json.loads(line)
    folder = None if start["folder"] is None else Path(start["folder"])
    try:
        jobs = open_jobs(Path(start["manifest"]), store=start["store"], folder=folder)
        worker = Worker(jobs, Settings(**start["settings"]))
    except (OnnxCheckError, OSError) as error:
        sys.exit(f"the worker of jobs cannot be started: {error}")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the server's
    signal.signal(signal.SIGTERM, lambda *_: worker.stop())

    def wait() -> None:
        while sys.stdin.read(1):
            pass
        worker.stop()

    threading.Thread(target=wait, daemon=True).start()
    worker.run()


if __name__ == "__main__":
    main()
