"""What somebody asked for: its options, how far it is, what came of it, and its log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.wording import meant

__all__ = [
    *("BATCHES", "BUNDLE", "ENDED", "KINDS", "OUTPUT", "RECORD", "REPORT"),
    *("Job", "JobError", "Kind", "Line", "NoSuchJob", "Options", "QueueFullError", "State"),
    "last_words",
]

#: what a job does. `export` makes ONNX files; `validate` runs every check but `latency`,
#: `benchmark` that one alone, `gate` all; `release` runs the gate and bundles what passed
Kind = Literal["export", "validate", "benchmark", "gate", "release"]
KINDS: tuple[str, ...] = get_args(Kind)

#: `done` is a job that was carried out: a gate may be red all the same, which its result says.
#: `failed` is one that could not be, `cut_off` one whose worker ended while it ran
State = Literal["queued", "running", "done", "failed", "cancelled", "cut_off"]

#: the states that a job stays in
ENDED = ("done", "failed", "cancelled", "cut_off")

#: what a job leaves in its folder: files, and the folder of a release
RECORD, REPORT, OUTPUT, BUNDLE = "record.json", "report.html", "output.txt", "bundle"

#: lines of `OUTPUT` that an error repeats
_TAIL = 15

#: the batches that a model may be exported with
BATCHES = range(1, 2**20 + 1)


class JobError(OnnxCheckError):
    """A job cannot be asked for so; the text says why."""


class QueueFullError(JobError):
    """As many jobs wait as may."""


class NoSuchJob(JobError):  # noqa: N818 - it is an answer, not a fault
    """No job has this id."""

    @classmethod
    def of(cls, name: str) -> NoSuchJob:
        """The error for an id."""
        return cls(f"no job has the id {name!r}: it may be of another manifest or store")


@dataclass(frozen=True)
class Options:
    """What is asked for beyond the manifest; None and empty leave it to the manifest.

    Attributes:
        checkpoint: The weights, as a path from the manifest's folder.
        exporter: `dynamo` or `torchscript`.
        opset: One of `terms.OPSETS`.
        dynamic: Whether symbolic dims stay so; only an export may have them fixed.
        precisions: See `terms.Precision`.
        batch_size: The batch to export with, one of `BATCHES`; of an export alone.

    Raises:
        JobError: One of them cannot be.
    """

    checkpoint: str | None = None
    exporter: str | None = None
    opset: int | None = None
    dynamic: bool = True
    precisions: tuple[str, ...] = ()
    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Turns away what makes no sense."""
        from pytest_onnxcheck.manifest.terms import OPSETS, Exporter, Precision

        object.__setattr__(self, "precisions", tuple(dict.fromkeys(self.precisions)))
        _known("checkpoint", self.checkpoint, (str, type(None)), "a path")
        if self.checkpoint is not None and not self.checkpoint.strip("\0 "):
            raise JobError("checkpoint: is empty: name a file, or leave it out")
        if self.checkpoint is not None and "\0" in self.checkpoint:
            raise JobError("checkpoint: a path has no NUL in it")
        if self.exporter is not None:
            _one_of("exporter", self.exporter, get_args(Exporter))
        for precision in self.precisions:
            _one_of("precisions", precision, get_args(Precision))
        _known("dynamic", self.dynamic, (bool,), "true or false")
        _within("opset", self.opset, OPSETS)
        _within("batch_size", self.batch_size, BATCHES)

    def fitting(self, kind: str) -> Options:
        """The same, where a job of this kind can have them.

        Raises:
            JobError: It cannot.
        """
        if kind not in KINDS:
            raise JobError(f"{kind!r} is no kind of job{meant(kind, KINDS)}: {', '.join(KINDS)}")
        if kind != "export" and (not self.dynamic or self.batch_size is not None):
            what = "batch_size" if self.dynamic else "dynamic = false"
            raise JobError(
                f"{what}: only an export can have it; {kind} takes the dims that the manifest has"
            )
        if kind == "release" and self != Options():
            raise JobError(
                "a release takes the model as the manifest has it, so that its sources say what "
                "was released: write checkpoint, exporter, opset and precisions there"
            )
        return self

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Options:
        """From what `to_json` gives."""
        return cls(**{**written, "precisions": tuple(written["precisions"])})

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {**asdict(self), "precisions": list(self.precisions)}


def last_words(folder: Path) -> list[str]:
    """The last lines of what was printed in a job.

    Args:
        folder: Where its files are made.
    """
    try:
        text = (folder / OUTPUT).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:  # it had not begun
        return []
    return text.rstrip().splitlines()[-_TAIL:]


def _known(name: str, value: object, kinds: tuple[type, ...], what: str) -> None:
    if not isinstance(value, kinds):
        raise JobError(f"{name}: {value!r} is not {what}")


def _within(name: str, value: object, numbers: range) -> None:
    if value is not None and (type(value) is not int or value not in numbers):
        raise JobError(f"{name}: {value!r} is not a number from {numbers[0]} to {numbers[-1]}")


def _one_of(name: str, value: object, names: tuple[str, ...]) -> None:
    if value not in names:
        raise JobError(f"{name}: {value!r} is not one of {', '.join(names)}")


@dataclass(frozen=True)
class Line:
    """A line of a job's log.

    Attributes:
        number: Of the job's lines, from 1 up; none is left out.
        time: When, in UTC, as ISO 8601.
        text: What happened.
    """

    number: int
    time: str
    text: str

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class Job:
    """What somebody asked for, as it stands.

    Attributes:
        id: By which it is found again.
        kind: One of `KINDS`.
        model: The model's name in the manifest.
        options: What was asked for beyond the manifest.
        state: One of `State`.
        created: When it was asked for, in UTC, as ISO 8601.
        started: When a worker began with it; None before.
        ended: When it came to its end; None before.
        worker: The process that runs it, or ran it: `HOST:PID`; None before.
        progress: How much is done, 0 to 1; None where that is not known.
        stage: What is being done, e.g. `exporting net::dynamo-op20-fp32`; None where nothing is.
        result: What came of it. Paths in it are names of files in the job's folder. An export has
            what `onnxcheck export --json` prints, its checkpoint by the path from the manifest's
            folder; the others have `verdict`, counts and failures.
        error: Why it did not come to a good end, and what to do; None where it did.
    """

    id: str
    kind: str
    model: str
    options: Options
    state: str
    created: str
    started: str | None = None
    ended: str | None = None
    worker: str | None = None
    progress: float | None = None
    stage: str | None = None
    result: dict[str, Any] | None = None
    error: str | None = None

    @property
    def number(self) -> int:
        """Which of the store's jobs it is, from 1 up."""
        return int(self.id.partition("-")[0])

    @property
    def over(self) -> bool:
        """Whether it came to an end, whichever."""
        return self.state in ENDED

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {**asdict(self), "options": self.options.to_json()}
