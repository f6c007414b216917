"""Checkpoints that are sent: off unless asked for, bounded, and looked at before they are kept."""

from __future__ import annotations

import asyncio

from anyio.to_thread import run_sync
from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect

from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.files import building
from pytest_onnxcheck.serve.http.limits import media_type
from pytest_onnxcheck.serve.http.problems import ProblemError, answers
from pytest_onnxcheck.serve.http.schemas import UploadInfo
from pytest_onnxcheck.serve.http.state import Door
from pytest_onnxcheck.serve.uploads import Upload, Uploads

__all__ = ["router"]

router = APIRouter(tags=["models"])

_BODY = {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


@router.post(
    "/models/{name}/checkpoints",
    status_code=201,
    responses={**answers(409, 415, 422), 201: {"description": "It is kept."}},
    openapi_extra={"requestBody": _BODY},
)
async def upload_checkpoint(name: str, request: Request, door: Door) -> UploadInfo:
    """Takes a checkpoint for a model: safetensors, or what torch.load(weights_only=True) reads.

    What could run code is refused. It is kept under a name of the server's, which is answered.
    """
    uploads = door.catalogue.uploads
    if uploads is None:
        raise ProblemError(
            403, "uploads-off", "this server takes no checkpoints: start it with --uploads"
        )
    given = media_type(request.headers)
    if given != "application/octet-stream":
        raise ProblemError(
            415,
            "not-a-file",
            f"the body is of type {given or 'none'}: send the file itself, with Content-Type: "
            "application/octet-stream",
        )
    model = await run_sync(door.catalogue.find, name)
    if model.trust:
        raise ProblemError(
            409,
            "trusted",
            f"{model.name} has trust = true, with which its checkpoints may run code: none can be "
            "sent for it",
        )
    if model.pretrained:
        raise ProblemError(
            409,
            "pretrained",
            f"{model.name} is read from a folder of save_pretrained: no file can take its place, "
            "write another folder to `pretrained` in the manifest",
        )
    found = await _received(request, uploads, model.name, door.examining)
    return UploadInfo(
        name=found.name,
        size_bytes=found.size_bytes,
        sha256=found.sha256,
        format="safetensors" if found.format == "safetensors" else "torch",
        state_dicts=list(found.state_dicts),
    )


async def _received(
    request: Request, uploads: Uploads, model: str, examining: asyncio.Semaphore
) -> Upload:
    """Writes the body into a file of the uploads' folder, looks at it, and keeps or deletes it."""
    await run_sync(lambda: uploads.folder.mkdir(parents=True, exist_ok=True))
    try:
        with building(uploads.folder) as folder:
            path = folder / "received"
            with path.open("wb") as file:
                async for piece in request.stream():
                    await run_sync(file.write, piece)
            async with examining:
                return await run_sync(uploads.keep, model, path)
    except ClientDisconnect:
        raise ProblemError(400, "cut-off", "the body ended before it was whole") from None
    except CheckpointError as error:
        raise ProblemError(422, "refused-checkpoint", str(error)) from None
