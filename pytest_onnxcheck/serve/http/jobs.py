"""The jobs: what they do, what they said, what they left, and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from pytest_onnxcheck.serve.http.downloads import file_answer
from pytest_onnxcheck.serve.http.events import events
from pytest_onnxcheck.serve.http.paths import root
from pytest_onnxcheck.serve.http.problems import ProblemError, answers
from pytest_onnxcheck.serve.http.schemas import (
    JobFile,
    JobFiles,
    JobInfo,
    JobList,
    LogLine,
    LogLines,
)
from pytest_onnxcheck.serve.http.state import Door, State
from pytest_onnxcheck.serve.jobs.job import REPORT

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_onnxcheck.serve.jobs.job import Job

__all__ = ["info", "router", "status"]

router = APIRouter(tags=["jobs"])


def info(job: Job) -> JobInfo:
    """A job as the API has it."""
    return JobInfo.model_validate(job.to_json())


@router.get(
    "/jobs/{id}",
    responses={**answers(), 200: {"description": "The job.", "model": JobInfo}},
    response_class=Response,
)
async def get_job(id: str, door: Door) -> Response:
    """A job: its state, how far it is, and what came of it."""
    return Response(await door.reader.get(id), media_type="application/json")


async def status(request: Request) -> Response:
    """The same, a route of Starlette's: it is asked for most, and FastAPI's take twice as long."""
    return await get_job(request.path_params["id"], request.app.state.door)


@router.get("/jobs", responses=answers(422))
def list_jobs(
    door: Door,
    model: Annotated[str | None, Query(description="Only those of a model.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many.")] = 100,
) -> JobList:
    """Jobs, the newest first."""
    return JobList(jobs=[info(job) for job in door.jobs.all(model=model, limit=limit)])


@router.delete("/jobs/{id}", responses=answers(409))
def cancel_job(id: str, door: Door) -> JobInfo:
    """Cancels a job that waits or runs; all its processes end. A job that has ended stays."""
    job = door.jobs.get(id)
    if job.over:
        raise ProblemError(
            409, "ended", f"job {job.id} has ended ({job.state}), so that nothing can be cancelled"
        )
    return info(door.jobs.cancel(job.id))


@router.get("/jobs/{id}/log", responses=answers(422))
def get_log(
    id: str,
    door: Door,
    after: Annotated[int, Query(ge=0, le=2**31, description="Only lines after this one.")] = 0,
) -> LogLines:
    """The lines of a job's log."""
    lines = door.jobs.lines(door.jobs.get(id).id, after=after)
    return LogLines(lines=[LogLine(**line.to_json()) for line in lines])


@router.get(
    "/jobs/{id}/events",
    responses={
        **answers(422),
        200: {
            "description": "Server-sent events: `line` (a line of the log; its id is the number) "
            "and `job` (the job, whenever it changed; the last once it has ended).",
            "content": {"text/event-stream": {}},
        },
        204: {"description": "The job has ended, and Last-Event-ID is its last line."},
    },
    response_class=Response,
)
async def get_events(id: str, request: Request, door: Door) -> Response:
    """What becomes of a job while it does; Last-Event-ID goes on after a line of the log."""
    return await events(id, request, door)


@router.get("/jobs/{id}/files", responses=answers())
def list_files(id: str, request: Request, door: Door) -> JobFiles:
    """The files that a job has left: its record, its report, what it exported or released."""
    job = door.jobs.get(id)
    base = f"{root(request)}/jobs/{quote(job.id)}/files"
    return JobFiles(
        files=[
            JobFile(name=name, size_bytes=path.stat().st_size, url=f"{base}/{quote(name)}")
            for name, path in sorted(_files(door, job).items())
        ]
    )


@router.get(
    "/jobs/{id}/files/{file:path}",
    responses={
        **answers(416),
        200: {"description": "The file.", "content": {"*/*": {}}},
        206: {"description": "The part that Range asks for.", "content": {"*/*": {}}},
        304: {"description": "If-None-Match names the ETag."},
    },
    response_class=Response,
)
@router.head("/jobs/{id}/files/{file:path}", include_in_schema=False)
def get_file(id: str, file: str, request: Request, door: Door) -> Response:
    """A file that a job has left; a browser shows report.html, and saves every other."""
    job = door.jobs.get(id)
    found = _files(door, job)
    if file not in found:
        raise ProblemError(404, "no-such-file", f"job {job.id} has left no file {file!r}")
    known = _hashes(job).get(file)
    return file_answer(request, found[file], found[file].name, known, inline=file == REPORT)


def _hashes(job: Job) -> dict[str, str]:
    """The hashes of the files that an export has made, as its result has them."""
    if job.kind != "export" or job.result is None:
        return {}
    made = (each for file in job.result["files"] for each in file["files"])
    return {each["name"]: each["sha256"] for each in made}


def _files(door: State, job: Job) -> dict[str, Path]:
    """The plain files in a job's folder by their paths there; no link, and no hidden file."""
    folder = door.jobs.folder(job)
    found = {path.relative_to(folder): path for path in folder.rglob("*")}
    return {
        name.as_posix(): path
        for name, path in found.items()
        if path.is_file()
        and not path.is_symlink()
        and not any(part.startswith(".") for part in name.parts)
    }
