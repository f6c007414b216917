"""A job in words: its state, its options, its log, and what to do where it failed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pytest_onnxcheck.report.escaping import visible
from pytest_onnxcheck.serve.panel.rendering import render

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.jobs.job import Job, Line, Options

__all__ = ["log", "minute", "state", "status", "title", "took"]

#: lines of a log that are shown, the last
_MOST_LINES = 500

_STATES = {
    "queued": "waits in the queue",
    "running": "runs",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
    "cut_off": "cut off",
}

_BADGES = {"done": "good", "failed": "bad", "cut_off": "bad", "cancelled": "warn"}

#: what to do about a job that came to no good end
_ADVICE = {
    "failed": "Mend what the message says, and start it again. The log below has all that it did.",
    "cancelled": "Nothing of it is kept but the log. Start it again when you like.",
}


def status(job: Job, waiting: int = 0, error: str | None = None) -> str:
    """The state of a job, as HTML.

    Args:
        job: The job.
        waiting: How many others of its kind wait.
        error: What it says of its error; None where that is said elsewhere.
    """
    return render(
        "status",
        job=job,
        state=state(job),
        took=took(job),
        options=_options(job.options),
        advice=_ADVICE.get(job.state, ""),
        waiting=waiting,
        error=error,
    )


def state(job: Job) -> tuple[str, str]:
    """The state of a job in words, and the kind of badge that it has."""
    if job.state == "done" and job.result is not None and job.result.get("verdict") == "fail":
        return "done: it does not pass", "bad"
    return _STATES[job.state], _BADGES.get(job.state, "none")


def title(job: Job) -> str:
    """What a job is called in a list: `export of net, 2026-12-01 10:15, done`."""
    return f"{job.kind} of {job.model}, {minute(job.created)}, {state(job)[0]}"


def minute(time: str) -> str:
    """A time as people read it, in UTC: `2026-12-01 10:15`."""
    return time[:16].replace("T", " ")


def log(lines: Sequence[Line]) -> str:
    """The last lines of a log with their times."""
    left_out = len(lines) - _MOST_LINES
    told = [f"… {left_out} lines before"] if left_out > 0 else []
    told += [f"{line.time[11:19]}  {visible(line.text)}" for line in lines[-_MOST_LINES:]]
    return "\n".join(told)


def took(job: Job) -> str:
    """How long a job ran that has ended: `2 min 5 s`."""
    if not job.started or not job.ended:
        return ""
    seconds = (_time(job.ended) - _time(job.started)).total_seconds()
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _options(options: Options) -> str:
    """What was asked for, on a line; what the manifest says is left out."""
    parts = [options.exporter, options.opset and f"opset {options.opset}"]
    parts += ["" if options.dynamic else "fixed sizes", ", ".join(options.precisions)]
    parts += [options.batch_size and f"batch {options.batch_size}"]
    parts += [options.checkpoint and f"checkpoint {options.checkpoint}"]
    return " · ".join(part for part in parts if part)
