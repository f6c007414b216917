"""What becomes of a job, as server-sent events."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync
from fastapi import Request
from starlette.responses import Response, StreamingResponse

from pytest_onnxcheck.serve.http.limits import busy
from pytest_onnxcheck.serve.http.problems import ProblemError
from pytest_onnxcheck.serve.http.state import State

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.jobs.job import Job, Line

__all__ = ["events"]

#: seconds between two looks at a job
_PACE = 0.3
#: seconds of silence after which a comment is sent: proxies close what says nothing
_SILENCE = 15.0

_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


async def events(id: str, request: Request, door: State) -> Response:
    """The stream of a job's events, from the line that Last-Event-ID names.

    Args:
        id: The job.
        request: What is answered.
        door: The jobs.

    Raises:
        ProblemError: Last-Event-ID is no number of a line, or too many streams are open.
        NoSuchJob: There is no such job.
    """
    given = request.headers.get("last-event-id", "0")
    if not (given.isascii() and given.isdecimal() and len(given) < 10):
        raise ProblemError(
            422, "invalid-request", f"Last-Event-ID: {given!r} is no number of a line of the log"
        )
    job, lines = await _look(door, id, int(given))
    if job.over and not lines and "last-event-id" in request.headers:
        return Response(status_code=204)  # a browser does not ask again
    if door.streams >= door.limits.streams:
        raise busy(f"{door.streams} event streams are open", {"Retry-After": "10"})
    return StreamingResponse(
        _events(request, door, job, lines, int(given)),
        media_type="text/event-stream",
        headers=_HEADERS,
    )


async def _events(
    request: Request, door: State, job: Job, lines: list[Line], last: int
) -> AsyncIterator[str]:
    door.streams += 1
    try:
        told: Job | None = None
        over, spoke = False, time.monotonic()
        while not (door.ending or await request.is_disconnected()):
            # who finds that a job was cut off says so, and then writes the last line of its log
            settled, over = over and job.over, job.over
            news = [_event("line", line.to_json(), line.number) for line in lines]
            last = max([last, *(line.number for line in lines)])
            if job != told and (settled or not over):
                told = job
                news.append(_event("job", job.to_json(), last))
            if not news and time.monotonic() - spoke > _SILENCE:
                news = [": still there\n\n"]
            if news:
                spoke = time.monotonic()
                yield "".join(news)
            if settled:
                return
            await anyio.sleep(_PACE)
            job, lines = await _look(door, job.id, last)
    finally:
        door.streams -= 1


async def _look(door: State, id: str, after: int) -> tuple[Job, list[Line]]:
    """The job as it is, and what it said before that."""

    def look() -> tuple[Job, list[Line]]:
        job = door.jobs.get(id)
        return job, door.jobs.lines(job.id, after=after)

    return await run_sync(look)


def _event(name: str, data: object, number: int) -> str:
    return f"id: {number}\nevent: {name}\ndata: {json.dumps(data)}\n\n"
