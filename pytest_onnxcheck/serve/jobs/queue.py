"""The jobs of a manifest: asked for, looked at, cancelled.

What is known of job N lies in huey's storage under keys of its own, each written once and whole::

    asked:N   what was asked for                   by who submits it
    begun:N   which worker runs it, since when     by the first worker that takes it
    now:N     how far it is, again and again       by that worker
    stop:N    it is to be cancelled                by whoever cancels it
    ended:N   its state and result                 by the first who says so
    line:N:K  line K of its log                    by the first who writes a line K

So nobody reads, changes and writes back what another may be writing, and a process that is killed
leaves nothing that is half a job. huey's own queue has but the number of each job.
"""

from __future__ import annotations

import datetime
import secrets
import threading
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.places import ARTEFACTS
from pytest_onnxcheck.serve.jobs.job import Job, Line, NoSuchJob, Options, QueueFullError
from pytest_onnxcheck.serve.jobs.manifests import find_model
from pytest_onnxcheck.serve.jobs.store import open_huey, reached

if TYPE_CHECKING:
    from huey import Huey

__all__ = ["Jobs", "now", "open_jobs"]

#: how many keys are asked for at once, of how many jobs it is looked whether they wait, and how
#: many that have ended are kept in memory
_AT_ONCE, _LOOKED_AT, _KEPT = 100, 1000, 4000
#: characters of a line of the log that are kept
_LONGEST_LINE = 2000


def now() -> str:
    """The time in UTC, as ISO 8601 with milliseconds."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def open_jobs(
    manifest: Path,
    *,
    store: str | None = None,
    folder: Path | None = None,
    most_waiting: int = 100,
) -> Jobs:
    """The jobs of a manifest.

    Args:
        manifest: The manifest; it need not be right yet.
        store: `redis://HOST:PORT/DB`, which workers on several machines share, or a file; default:
            a file in the folder.
        folder: Where the files of jobs are put; default: `.onnxcheck/serve` beside the manifest.
        most_waiting: How many jobs may wait at once.

    Raises:
        StoreError: The store is not reached, or the folder cannot be written to.
    """
    manifest = manifest.absolute()
    folder = (folder or manifest.parent / ARTEFACTS / "serve").absolute()
    return Jobs(manifest, store or str(folder / "jobs.db"), folder, most_waiting)


class Jobs:
    """The jobs of a manifest. Threads may share it; a process that was forked may not.

    Every method raises `StoreError` where the store is not reached.

    Attributes:
        manifest: The manifest, absolute.
        store: Where the jobs are: a file, or the address of Redis, which may have a password.
        files: Where the files of jobs are put, absolute.
        most_waiting: How many jobs may wait at once.
        huey: The queue.
        perform: What a worker does with a job's number; what is no worker has none.
    """

    def __init__(self, manifest: Path, store: str, files: Path, most_waiting: int) -> None:
        self.manifest = manifest
        self.store = store
        self.files = files
        self.most_waiting = most_waiting
        self.huey: Huey = open_huey(store)
        self.perform: Callable[[int], None] | None = None
        #: the last number that is known to be taken
        self._last: dict[str, int] = {}
        #: jobs that have ended, of which nothing changes any more
        self._over: dict[int, Job] = {}
        self._lock = threading.Lock()
        #: is held while a job is asked for, so that no more wait than may
        self._submitting = threading.Lock()
        self._task = self.huey.task(name="onnxcheck_job")(self._performed)

    def submit(self, kind: str, model: str, options: Options | None = None) -> Job:
        """Asks for a job; a worker runs it when its turn comes.

        Args:
            kind: One of `KINDS`.
            model: The model's name in the manifest.
            options: What is asked for beyond the manifest.

        Raises:
            JobError: There is no such kind or model, or the options cannot be.
            QueueFullError: As many jobs wait as may.
            ManifestError: The manifest is wrong.
        """
        options = (options or Options()).fitting(kind)
        find_model(self.manifest, kind, model, options)
        digits = secrets.token_hex(4)  # a store that was emptied counts from 1 again
        asked = {"kind": kind, "model": model, "options": options.to_json(), "created": now()}
        with self._submitting:
            waiting = sum(job.state == "queued" for job in self.all(limit=_LOOKED_AT))
            if waiting >= self.most_waiting:
                raise QueueFullError(
                    f"the queue is full ({waiting} of {self.most_waiting} places): ask again when "
                    "a job has begun, or cancel one"
                )
            self.count()
            number = self._append("asked", lambda place: {"id": f"{place}-{digits}", **asked})
        self.enqueue(number)
        return self.get(f"{number}-{digits}")

    def get(self, name: str) -> Job:
        """A job as it stands.

        Raises:
            NoSuchJob: There is none of this id.
        """
        number = _number(name)
        job = None if number is None else self._read([number]).get(number)
        if job is None or job.id != name:
            raise NoSuchJob.of(name)
        return job

    def several(self, names: Collection[str]) -> dict[str, Job]:
        """Jobs as they stand, by their ids; those that are not there are left out."""
        numbers = {name: number for name in names if (number := _number(name)) is not None}
        wanted = list(dict.fromkeys(numbers.values()))
        read: dict[int, Job] = {}
        for start in range(0, len(wanted), _AT_ONCE):
            read |= self._read(wanted[start : start + _AT_ONCE])
        found = {name: read[number] for name, number in numbers.items() if number in read}
        return {name: job for name, job in found.items() if job.id == name}

    def all(self, model: str | None = None, limit: int = 100) -> list[Job]:
        """The jobs, the newest first.

        Args:
            model: Only those of this model.
            limit: At most so many.
        """
        found: list[Job] = []
        last = self.count()
        while last > 0 and len(found) < limit:
            numbers = range(last, max(last - _AT_ONCE, 0), -1)
            read = self._read(numbers)
            jobs = (read[number] for number in numbers if number in read)
            found += [job for job in jobs if model in (None, job.model)]
            last -= _AT_ONCE
        return found[:limit]

    def cancel(self, name: str) -> Job:
        """Ends a job: at once where it waits, and within seconds where it runs.

        Returns:
            The job; one that runs is `running` until its processes are gone. One that has ended
            stays as it is.

        Raises:
            NoSuchJob: There is none of this id.
        """
        job = self.get(name)
        if job.state == "queued":
            self.end(job.number, "cancelled", error="It was cancelled before it began.")
        elif job.state == "running":
            with reached(self.store):
                self.huey.put(f"stop:{job.number}", now())
        return self.get(name)

    def lines(self, name: str, after: int = 0) -> list[Line]:
        """The lines of a job's log.

        Args:
            name: The job.
            after: Only those behind this one, by its number.

        Raises:
            NoSuchJob: There is none of this id.
        """
        number = self.get(name).number
        found: list[Line] = []
        while True:
            places = range(after + 1, after + 1 + _AT_ONCE)
            read = self._peek([f"line:{number}:{place}" for place in places])
            for place in places:
                if (line := read.get(f"line:{number}:{place}")) is None:
                    return found
                found.append(Line(place, line["time"], line["text"]))
            after += _AT_ONCE

    def folder(self, job: Job | str) -> Path:
        """The folder of a job's files, which is there once it has ended well.

        Exported files, or `record.json`, `report.html` and `output.txt`, which is what pytest
        printed; of a release, the bundle in `bundle/`.

        Args:
            job: The job, or its id.

        Raises:
            NoSuchJob: There is none of this id.
        """
        return self.folders / (job if isinstance(job, Job) else self.get(job)).id

    @property
    def folders(self) -> Path:
        """Where the folders of all jobs are."""
        return self.files / "jobs"

    # what workers do

    def count(self) -> int:
        """The number of the job that was asked for last; 0 without any."""
        last, steps = self._last.get("asked", 0), 1
        while found := self._peek([f"asked:{last + step}" for step in range(1, steps + 1)]):
            last, steps = last + len(found), _AT_ONCE
        self._last["asked"] = last
        return last

    def numbered(self, number: int) -> Job | None:
        """The job of a number."""
        return self._read([number]).get(number)

    def unfinished(self, first: int) -> list[tuple[int, Job, Mapping[str, Any] | None]]:
        """The jobs from a number on that have not ended, with the worker that runs each."""
        found = []
        last = self.count()
        for start in range(first, last + 1, _AT_ONCE):
            numbers = range(start, min(start + _AT_ONCE, last + 1))
            open_jobs = {number: job for number, job in self._read(numbers).items() if not job.over}
            workers = self._peek([f"begun:{number}" for number in open_jobs]) if open_jobs else {}
            found += [
                (number, job, workers.get(f"begun:{number}")) for number, job in open_jobs.items()
            ]
        return found

    def enqueue(self, number: int) -> None:
        """Puts a job into huey's queue; one that is there twice is run once."""
        with reached(self.store):
            self._task(number)

    def queued(self) -> set[int]:
        """The jobs in huey's queue, by their numbers."""
        with reached(self.store):
            return {int(task.args[0]) for task in self.huey.pending()}

    def begin(self, number: int, worker: Mapping[str, Any]) -> bool:
        """Takes a job for a worker; whether it is that one's, and still to be done."""
        has = self.huey.storage.has_data_for_key
        with reached(self.store):
            if has(f"ended:{number}"):  # it was cancelled, and nothing of it changes any more
                return False
            mine = self.huey.put_if_empty(f"begun:{number}", {**worker, "started": now()})
            return bool(mine) and not has(f"ended:{number}")

    def tell(self, number: int, stage: str | None, progress: float | None) -> None:
        """Says how far a job is."""
        with reached(self.store):
            self.huey.put(f"now:{number}", {"stage": stage, "progress": progress})

    def end(
        self,
        number: int,
        state: str,
        *,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        """Says how a job ended; whether nobody had said so before."""
        ended = {"state": state, "ended": now(), "result": result, "error": error}
        with reached(self.store):
            return bool(self.huey.put_if_empty(f"ended:{number}", ended))

    def stopped(self, number: int) -> bool:
        """Whether a job is to be cancelled, or somebody has ended it."""
        return bool(self._peek([f"stop:{number}", f"ended:{number}"]))

    def log(self, number: int, text: str) -> None:
        """Adds a line to a job's log."""
        line = {"time": now(), "text": text[:_LONGEST_LINE]}
        self._append(f"line:{number}", lambda _: line)

    def say_alive(self, worker: str, beats: int) -> None:
        """Says that a worker lives: its number of signs of life changes."""
        with reached(self.store):
            self.huey.put(f"alive:{worker}", beats)

    def said_alive(self, worker: str) -> int | None:
        """How many signs of life a worker has given; None where it is not known."""
        found: int | None = self._peek([f"alive:{worker}"]).get(f"alive:{worker}")
        return found

    def _performed(self, number: int) -> None:
        assert self.perform is not None
        self.perform(number)

    def _append(self, what: str, made: Callable[[int], Any]) -> int:
        """Writes the next of what is numbered from 1 up without a gap; gives its number."""
        place = self._last.get(what, 0) + 1
        with reached(self.store):
            while not self.huey.put_if_empty(f"{what}:{place}", made(place)):
                place += 1
        self._last[what] = place
        return place

    def _peek(self, keys: list[str]) -> dict[str, Any]:
        with reached(self.store):
            found = self.huey.storage.peek_many(keys)
        return {key: self.huey.serializer.deserialize(value) for key, value in found.items()}

    def _read(self, numbers: range | list[int]) -> dict[int, Job]:
        """The jobs of some numbers, those that are there."""
        with self._lock:
            found = {number: self._over[number] for number in numbers if number in self._over}
        parts = ("asked", "begun", "now", "ended")
        keys = [f"{part}:{number}" for number in numbers if number not in found for part in parts]
        read = self._peek(keys) if keys else {}
        for number in numbers:
            if f"asked:{number}" in read:
                found[number] = _job(*(read.get(f"{part}:{number}") for part in parts))
                self._keep(number, found[number])
        return {number: found[number] for number in numbers if number in found}

    def _keep(self, number: int, job: Job) -> None:
        if not job.over:
            return
        with self._lock:
            self._over[number] = job
            if len(self._over) > _KEPT:
                # looks go from the newest on: what came first would be gone before it is met again
                del self._over[min(self._over)]


def _job(
    asked: Mapping[str, Any] | None,
    begun: Mapping[str, Any] | None,
    told: Mapping[str, Any] | None,
    ended: Mapping[str, Any] | None,
) -> Job:
    assert asked is not None
    known = {**asked, "options": Options.from_json(asked["options"])}
    state = "queued"
    if begun and ended and ended["state"] == "cancelled" and begun["started"] > ended["ended"]:
        begun = None  # a worker took it at the very moment, and let go of it
    if begun is not None:
        state = "running"
        known |= {"started": begun["started"], "worker": begun["name"]}
        known |= told or {}
    if ended is not None:
        state = ended["state"]
        known |= {key: ended[key] for key in ("ended", "result", "error")}
        known |= {"stage": None}
        if state == "done":
            known |= {"progress": 1.0}
    return Job(state=state, **known)


def _number(name: str) -> int | None:
    number = name.partition("-")[0]
    return int(number) if number.isdecimal() and number.isascii() and len(number) < 16 else None
