"""What the page does when something is chosen, pressed or looked at. Knows nothing of Gradio."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.serve.panel import (
    benchmarking,
    comparing,
    downloading,
    exporting,
    history,
    reporting,
    validating,
)
from pytest_onnxcheck.serve.panel.choice import Choice, Offer, Weights, key_of, offered, tables
from pytest_onnxcheck.serve.panel.job import log, status, title
from pytest_onnxcheck.serve.panel.pane import Pane
from pytest_onnxcheck.serve.panel.rendering import render
from pytest_onnxcheck.serve.panel.view import MOST_JOBS, View, look

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.catalogue import Catalogue
    from pytest_onnxcheck.serve.jobs.job import Job, Options
    from pytest_onnxcheck.serve.jobs.queue import Jobs

__all__ = ["PANES", "Desk", "Shown"]

#: the tabs, in their order
PANES: tuple[Pane, ...] = (
    exporting.PANE,
    validating.PANE,
    benchmarking.PANE,
    comparing.PANE,
    downloading.PANE,
    reporting.PANE,
    history.PANE,
)


@dataclass(frozen=True)
class Shown:
    """What a tab shows.

    Attributes:
        status: The state of its job, as HTML.
        log: That job's log.
        runs: Whether the job can be cancelled.
        body: What came of it, as HTML.
        starts: Whether a job can be asked for.
        job: The id of its job; None where there is none.
    """

    status: str
    log: str
    runs: bool
    body: str
    starts: bool = True
    job: str | None = None


class Desk:
    """The models and the jobs, as the page asks for them. Several threads may ask it."""

    def __init__(self, catalogue: Catalogue, jobs: Jobs) -> None:
        """Reads nothing yet."""
        self._catalogue = catalogue
        self._jobs = jobs
        #: what was offered, by its key
        self._offered: dict[str, Weights] = {}
        self._lock = threading.Lock()

    def tables(self) -> list[str]:
        """The manifest's tables of models; none where it cannot be used."""
        try:
            return tables(self._catalogue.manifest())
        except OnnxCheckError:
            return []

    def offer(self, table: str | None) -> Offer:
        """What can be chosen of a table."""
        found = offered(self._catalogue, table)
        self._offered.update({each.key: each for each in found.weights})
        return found

    def weights(self, table: str | None, key: str | None) -> Weights | None:
        """What a key stands for, which may be gone meanwhile; None where it was never offered.

        Args:
            table: The table that it is of; it is read only where the key is not known yet.
            key: The key.
        """
        if key not in self._offered:
            self.offer(table)
        return None if key is None else self._offered.get(key)

    def current(self) -> tuple[str | None, str | None, str | None]:
        """Table, key and tab that are shown first: those of the job that runs, or ran last."""
        names = self.tables()
        try:
            found = self._jobs.all(limit=MOST_JOBS)
            job = next((job for job in found if not job.over), next(iter(found), None))
            if job is not None:
                known = self._catalogue.model(job.model)
                pane = next((pane.name for pane in PANES if pane.kind == job.kind), None)
                key = key_of(job.model, known.checkpoint_of(job))
                return known.section, key, None if job.over else pane
        except OnnxCheckError:
            pass
        return next(iter(names), None), None, None

    def start(self, kind: str, choice: Choice | None) -> str:
        """Asks for a job, unless the same one waits or runs.

        Args:
            kind: The kind of job.
            choice: What is chosen; None where there is no such checkpoint, or not any more.

        Returns:
            Why there is none, and what to do; empty where there is.
        """
        if choice is None:
            return (
                "There is no checkpoint: choose one that is there, or train one, and press Refresh."
            )
        try:
            options = self._options(kind, choice)
            with self._lock:  # a button that is pressed twice asks once
                found = self._jobs.all(choice.weights.model, MOST_JOBS)
                asked = [(job.kind, job.options) for job in found if not job.over]
                if (kind, options) not in asked:
                    self._jobs.submit(kind, choice.weights.model, options)
        except OnnxCheckError as error:
            return str(error)
        return ""

    def cancel(self, id: str) -> str:
        """Cancels a job; the text says why it cannot be, and is empty where it was.

        Args:
            id: That of the job that is shown, which may have ended since.
        """
        try:
            job = self._jobs.get(id)
            if job.over and job.state != "cancelled":
                return f"There is nothing to cancel, it has ended meanwhile: {title(job)}."
            self._jobs.cancel(id)
        except OnnxCheckError as error:
            return str(error)
        return ""

    def stamp(self) -> tuple[object, ...]:
        """What changes whenever anything may be shown anew."""
        try:
            found = self._jobs.all(limit=MOST_JOBS)
        except OnnxCheckError as error:
            return (str(error),)
        return tuple((job.id, job.state, job.stage, job.progress) for job in found)

    def look(self, weights: Weights, file_name: str) -> View:
        """A model with a checkpoint as it is now.

        Raises:
            OnnxCheckError: There is none, the manifest cannot be used, or the jobs are not reached.
        """
        return look(self._catalogue, self._jobs, weights, file_name)

    def shown(self, pane: Pane, view: View) -> Shown:
        """What a tab shows of a model."""
        body = pane.show(view)
        shown = Shown("", "", False, body)
        if pane.kind is not None and (job := view.current(pane.kind)) is not None:
            # what came of it says in the tab itself why some failed
            told = job.result is not None and not view.known.given
            error = None if told else job.error
            shown = self._shown(job, body, error, view.waiting(pane.kind))
        return replace(shown, starts=pane.kind != "export" or not view.known.given)

    def job(self, id: str | None) -> Shown:
        """A job by itself."""
        try:
            job = self._jobs.get(id) if id else None
        except OnnxCheckError as error:
            return Shown(render("nothing", text=str(error)), "", False, "")
        return Shown("", "", False, "") if job is None else self._shown(job, "", job.error)

    def _shown(self, job: Job, body: str, error: str | None, waiting: int = 0) -> Shown:
        lines = log(self._jobs.lines(job.id))
        return Shown(status(job, waiting, error), lines, not job.over, body, job=job.id)

    def titles(self, jobs: Sequence[Job]) -> list[tuple[str, str]]:
        """What jobs are called in a list, with their ids."""
        return [(title(job), job.id) for job in jobs]

    def _options(self, kind: str, choice: Choice) -> Options:
        """The options of a job.

        Raises:
            OnnxCheckError: They cannot be so.
        """
        from pytest_onnxcheck.serve.jobs.job import JobError, Options

        weights = choice.weights
        if kind == "release":
            if weights.uploaded:
                raise JobError("A bundle is made of the manifest's checkpoint: choose that.")
            return Options()
        if choice.opset is not None and choice.opset % 1:
            raise JobError(f"Opset {choice.opset} is no whole number.")
        path = None
        if weights.checkpoint is not None:
            path = self._catalogue.checkpoint(weights.model, weights.checkpoint)
        if weights.given:
            return Options(checkpoint=path)
        if not choice.precisions:
            raise JobError("Nothing is ticked: choose one precision or more.")
        return Options(
            checkpoint=path,
            exporter=choice.exporter,
            opset=None if choice.opset is None else int(choice.opset),
            # the checks take the dims that the manifest has
            dynamic=choice.dynamic or kind != "export",
            precisions=choice.ordered(),
        )
