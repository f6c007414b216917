"""Downloads of the panel: an artefact under the name that somebody chose, a bundle as one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request
from starlette.responses import Response

from pytest_onnxcheck.measurement import HashedFile
from pytest_onnxcheck.serve.http.downloads import Which, file_answer, sha256_of, zip_answer
from pytest_onnxcheck.serve.http.problems import ProblemError
from pytest_onnxcheck.serve.jobs.job import BUNDLE

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.http.state import State

__all__ = ["router"]

router = APIRouter(include_in_schema=False)


@router.api_route("/download/artefact/{model}/{variant}/{name}", methods=["GET", "HEAD"])
def artefact(
    model: str,
    variant: str,
    name: str,
    request: Request,
    which: Which,
) -> Response:
    """An artefact of one file, which a browser saves under a name."""
    door: State = request.app.state.door
    found = door.catalogue.artefact(model, variant, **which)
    only, *others = found.files
    if others:
        raise ProblemError(404, "several-files", f"{variant} has several files: take its archive")
    return file_answer(request, found.folder / only.name, name, only.sha256)


@router.api_route("/download/bundle/{job}/{name}.zip", methods=["GET", "HEAD"])
def bundle(job: str, name: str, request: Request) -> Response:
    """The bundle that a job has made, as an archive."""
    door: State = request.app.state.door
    folder = door.jobs.folder(job) / BUNDLE
    files = _files(folder)
    if not files:
        raise ProblemError(404, "no-such-bundle", f"job {job} has made no bundle")
    return zip_answer(request, folder, files, f"{name}.zip")


def _files(folder: Path) -> tuple[HashedFile, ...]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return tuple(
        HashedFile(path.relative_to(folder).as_posix(), path.stat().st_size, sha256_of(path))
        for path in paths
    )
