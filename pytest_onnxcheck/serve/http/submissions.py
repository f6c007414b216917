"""What is asked for: exports and runs of the gate, as jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request, Response

from pytest_onnxcheck.serve.http.jobs import info
from pytest_onnxcheck.serve.http.limits import json_only
from pytest_onnxcheck.serve.http.paths import root
from pytest_onnxcheck.serve.http.problems import answers
from pytest_onnxcheck.serve.http.schemas import (
    ExportOptions,
    JobInfo,
    ReleaseOptions,
    RunOptions,
)
from pytest_onnxcheck.serve.http.state import Door, State
from pytest_onnxcheck.serve.jobs.job import Options

__all__ = ["router"]

_LOCATION = {"Location": {"description": "The job.", "schema": {"type": "string"}}}

router = APIRouter(
    tags=["jobs"],
    dependencies=[Depends(json_only)],
    responses={
        **answers(409, 415, 422),
        202: {"description": "The job, which waits in the queue.", "headers": _LOCATION},
    },
)

_Run = Annotated[RunOptions, Body(default_factory=RunOptions)]


@router.post("/models/{name}/export-onnx", status_code=202)
def export_onnx(
    name: str,
    request: Request,
    response: Response,
    door: Door,
    options: Annotated[ExportOptions, Body(default_factory=ExportOptions)],
) -> JobInfo:
    """Exports a model, and holds what was exported against PyTorch."""
    return _submit(door, request, response, "export", name, options)


@router.post("/models/{name}/validate", status_code=202)
def validate(name: str, request: Request, response: Response, door: Door, options: _Run) -> JobInfo:
    """Runs every check of the gate but those of speed."""
    return _submit(door, request, response, "validate", name, options)


@router.post("/models/{name}/benchmark", status_code=202)
def benchmark(
    name: str, request: Request, response: Response, door: Door, options: _Run
) -> JobInfo:
    """Times each variant beside PyTorch; jobs that time something run one after the other."""
    return _submit(door, request, response, "benchmark", name, options)


@router.post("/models/{name}/gate", status_code=202)
def gate(name: str, request: Request, response: Response, door: Door, options: _Run) -> JobInfo:
    """Runs every check of the gate."""
    return _submit(door, request, response, "gate", name, options)


@router.post("/models/{name}/release", status_code=202)
def release(
    name: str,
    request: Request,
    response: Response,
    door: Door,
    _: Annotated[ReleaseOptions, Body(default_factory=ReleaseOptions)],
) -> JobInfo:
    """Runs the gate, and bundles what the manifest releases of the model if all checks passed.

    It has no options, so that the bundle's sources say what was released.
    """
    return _submit(door, request, response, "release", name, RunOptions())


def _submit(
    door: State, request: Request, response: Response, kind: str, name: str, given: RunOptions
) -> JobInfo:
    model = door.catalogue.find(name)
    wanted: dict[str, Any] = given.model_dump()
    if given.checkpoint is not None:
        wanted["checkpoint"] = door.catalogue.checkpoint(model.name, given.checkpoint)
    job = door.jobs.submit(kind, model.name, Options.from_json(wanted))
    response.headers["Location"] = f"{root(request)}/jobs/{job.id}"
    return info(job)
