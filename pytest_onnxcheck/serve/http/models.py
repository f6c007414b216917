"""The models: what is known of them, and what was exported."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Request
from starlette.responses import Response

from pytest_onnxcheck.serve.catalogue import Artefact, Known
from pytest_onnxcheck.serve.http.downloads import Which, file_answer, zip_answer
from pytest_onnxcheck.serve.http.paths import root
from pytest_onnxcheck.serve.http.problems import ProblemError, answers
from pytest_onnxcheck.serve.http.schemas import (
    ArtefactInfo,
    CheckpointInfo,
    FileInfo,
    ModelInfo,
    ModelList,
    ModelSummary,
    VariantInfo,
)
from pytest_onnxcheck.serve.http.state import Door

__all__ = ["router"]

router = APIRouter(tags=["models"])

_FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {"application/octet-stream": {}, "application/zip": {}},
    },
    206: {
        "description": "The part that Range asks for.",
        "content": {"application/octet-stream": {}},
    },
    304: {"description": "If-None-Match names the ETag."},
}


@router.get("/models", responses=answers())
def list_models(door: Door) -> ModelList:
    """Every model of the manifest: what is exported of it, and its last verdict."""
    problems = [problem.text for problem in door.catalogue.manifest().problems]
    models = [ModelSummary(**_summary(known)) for known in door.catalogue.models()]
    return ModelList(models=models, problems=problems)


@router.get("/models/{name}", responses=answers())
def get_model(name: str, request: Request, door: Door) -> ModelInfo:
    """All that is known of a model."""
    known = door.catalogue.model(name)
    return ModelInfo(
        **_summary(known),
        section=known.section,
        checkpoints=[
            CheckpointInfo(
                name=file.name,
                size_bytes=file.size_bytes,
                modified=file.modified,
                uploaded=file.uploaded,
            )
            for file in known.checkpoints
        ],
        variants=list(known.variants),
        verdicts=[VariantInfo(variant=it.variant, verdict=it.verdict) for it in known.verdicts],
        job=known.job,
        artefacts=[_artefact(known.name, artefact, root(request)) for artefact in known.artefacts],
    )


@router.get(
    "/models/{name}/artefact/{variant}",
    responses={**answers(416, 422), **_FILE},
    response_class=Response,
)
@router.head("/models/{name}/artefact/{variant}", include_in_schema=False)
def get_artefact(
    name: str,
    variant: str,
    request: Request,
    door: Door,
    which: Which,
) -> Response:
    """The newest artefact of a variant, or of a precision: the .onnx, or a .zip of several files.

    One with open sizes comes before those with fixed ones. An artefact with external data is
    several files: they come as one archive, or each by itself.
    """
    found = door.catalogue.artefact(name, variant, **which)
    shown = f"{name}-{found.variant}{found.suffix}"
    if len(found.files) == 1:
        only = found.files[0]
        return file_answer(request, found.folder / only.name, f"{shown}.onnx", only.sha256)
    return zip_answer(request, found.folder, found.files, f"{shown}.zip")


@router.get(
    "/models/{name}/artefact/{variant}/{file}",
    responses={**answers(416, 422), **_FILE},
    response_class=Response,
)
@router.head("/models/{name}/artefact/{variant}/{file}", include_in_schema=False)
def get_artefact_file(
    name: str,
    variant: str,
    file: str,
    request: Request,
    door: Door,
    which: Which,
) -> Response:
    """One file of an artefact, under the name that it has to have beside the others."""
    found = door.catalogue.artefact(name, variant, **which)
    for each in found.files:
        if each.name == file:
            return file_answer(request, found.folder / each.name, each.name, each.sha256)
    there = ", ".join(each.name for each in found.files)
    raise ProblemError(404, "no-such-file", f"{found.variant} has no file {file!r}: it has {there}")


def _summary(known: Known) -> dict[str, object]:
    return {
        "name": known.name,
        "has_onnx": known.has_onnx,
        "onnx_size_bytes": known.onnx_size_bytes,
        "precisions": list(known.precisions),
        "exported": list(dict.fromkeys(it.precision for it in known.artefacts)),
        "verdict": known.verdict,
        "when": known.when,
    }


def _artefact(model: str, artefact: Artefact, base: str) -> ArtefactInfo:
    url = f"{base}/models/{quote(model)}/artefact/{quote(artefact.variant)}"
    of = f"?{urlencode(artefact.query)}"
    return ArtefactInfo(
        variant=artefact.variant,
        precision=artefact.precision,
        checkpoint=artefact.checkpoint,
        dynamic=artefact.dynamic,
        batch_size=artefact.batch_size,
        size_bytes=artefact.size_bytes,
        size_ratio=artefact.size_ratio,
        grade=artefact.grade,
        job=artefact.job,
        created=artefact.created,
        url=url + of,
        files=[
            FileInfo(
                name=file.name,
                size_bytes=file.size_bytes,
                sha256=file.sha256,
                url=f"{url}/{quote(file.name)}{of}",
            )
            for file in artefact.files
        ],
    )
