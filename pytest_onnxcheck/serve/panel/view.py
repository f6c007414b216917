"""What the page shows of one model with one of its checkpoints, as it is now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_onnxcheck.record.record import Record
    from pytest_onnxcheck.serve.catalogue import Catalogue, Known
    from pytest_onnxcheck.serve.jobs.job import Job
    from pytest_onnxcheck.serve.jobs.queue import Jobs
    from pytest_onnxcheck.serve.panel.choice import Weights

__all__ = ["MOST_JOBS", "View", "look"]

#: jobs that are looked at, the newest first
MOST_JOBS = 100


@dataclass(frozen=True)
class View:
    """A model with a checkpoint, and what was done with that.

    Attributes:
        known: What is known of the model, of its artefacts those of the checkpoint.
        file_name: What the fp32 artefact is saved as.
        jobs: The jobs of the checkpoint, the newest first.
        history: The jobs of all models, the newest first.
        record: The record that a job left; None where it left none.
    """

    known: Known
    file_name: str
    jobs: tuple[Job, ...]
    history: tuple[Job, ...]
    record: Callable[[Job], Record | None]

    def current(self, kind: str) -> Job | None:
        """Its job of a kind that runs, else the one whose turn is next, else the newest."""
        jobs = [job for job in self.jobs if job.kind == kind]
        running = [job for job in jobs if job.state == "running"]
        waiting = [job for job in jobs if job.state == "queued"]
        return next(iter([*reversed(running), *reversed(waiting), *jobs]), None)

    def goes_on(self, kind: str) -> bool:
        """Whether a job of a kind runs or waits."""
        current = self.current(kind)
        return current is not None and not current.over

    def waiting(self, kind: str) -> int:
        """How many of its jobs of a kind wait, beside the current one."""
        current = self.current(kind)
        found = [job for job in self.jobs if job.kind == kind and job.state == "queued"]
        return sum(job is not current for job in found)

    def recorded(self, *kinds: str) -> tuple[Job, Record] | None:
        """The newest of some kinds that left a record of it, with that."""
        for job in self.jobs:
            record = self.record(job) if job.kind in kinds and job.ended else None
            if record is not None and any(it.model == self.known.name for it in record.checks):
                return job, record
        return None


def look(catalogue: Catalogue, jobs: Jobs, weights: Weights, file_name: str) -> View:
    """What is known of a model with a checkpoint.

    Raises:
        UnknownError: The manifest has no such model.
        ManifestError: It cannot be used.
    """
    known, checkpoint = catalogue.model(weights.model), weights.checkpoint
    artefacts = tuple(it for it in known.artefacts if it.checkpoint == checkpoint)
    found = jobs.all(model=weights.model, limit=MOST_JOBS)
    return View(
        known=replace(known, artefacts=artefacts),
        file_name=file_name,
        jobs=tuple(job for job in found if known.checkpoint_of(job) == checkpoint),
        history=tuple(jobs.all(limit=MOST_JOBS)),
        record=catalogue.record,
    )
