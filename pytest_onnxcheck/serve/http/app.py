"""The app: the API under /api, /metrics, and whatever is mounted beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from pytest_onnxcheck import __version__
from pytest_onnxcheck.errors import ManifestError, OnnxCheckError
from pytest_onnxcheck.serve.catalogue import Catalogue, UnknownError
from pytest_onnxcheck.serve.http import jobs as jobs_routes
from pytest_onnxcheck.serve.http import metrics, models, problems, submissions, uploads
from pytest_onnxcheck.serve.http.draining import Drain
from pytest_onnxcheck.serve.http.headers import SafeHeaders
from pytest_onnxcheck.serve.http.limits import Limiter, Limits
from pytest_onnxcheck.serve.http.security import Access, Guard
from pytest_onnxcheck.serve.http.state import State
from pytest_onnxcheck.serve.jobs.job import NoSuchJob, QueueFullError
from pytest_onnxcheck.serve.jobs.store import StoreError
from pytest_onnxcheck.serve.uploads import Uploads

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.jobs.queue import Jobs

__all__ = ["create_app"]

_ABOUT = """\
Exports PyTorch models to ONNX, checks and times them, and releases what passed: what `onnxcheck`
and `pytest --onnxcheck` do, as jobs. A `POST` is answered by a job, whose `Location` tells how it
is getting on. Errors are `application/problem+json`.
"""


def create_app(
    manifest: Path,
    jobs: Jobs,
    *,
    access: Access | None = None,
    limits: Limits | None = None,
    uploads_folder: Path | None = None,
) -> FastAPI:
    """The app. `app.state.door` has the jobs and the catalogue, `app.state.access` who may ask.

    Args:
        manifest: The manifest.
        jobs: The jobs.
        access: Who may ask; default: whoever asks for a name of this machine.
        limits: How much is taken.
        uploads_folder: Where checkpoints that are sent are kept; None where none are taken.
    """
    limits, access = limits or Limits(), access or Access.of("127.0.0.1", None)
    sent = None if uploads_folder is None else Uploads(uploads_folder)
    door = State(Catalogue(manifest, jobs, sent), jobs, limits)
    api = _api(door, access)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.state.door, app.state.access = door, access
    app.include_router(metrics.router)
    app.add_route("/api/jobs/{id}", jobs_routes.status, methods=["GET"])
    app.mount("/api", api)
    _handle_errors(app)
    # the last is asked first
    app.add_middleware(Limiter, limits=limits, access=access, uploads=sent is not None)
    app.add_middleware(Guard, access=access)
    app.add_middleware(SafeHeaders)
    app.add_middleware(Drain)
    return app


def _api(door: State, access: Access) -> FastAPI:
    api = FastAPI(
        title="onnxcheck",
        version=__version__,
        description=_ABOUT,
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        docs_url=None,  # its pages load scripts from elsewhere
        redoc_url=None,
    )
    api.state.door = door
    # what is asked for most often first: a router tries one route after the other
    for router in (jobs_routes.router, models.router, submissions.router, uploads.router):
        api.include_router(router)
    _handle_errors(api)
    written = api.openapi

    def openapi() -> dict[str, Any]:
        return _completed(written(), asks_token=access.token is not None)

    api.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it
    return api


def _handle_errors(app: FastAPI) -> None:
    problems.handle(app)
    app.add_exception_handler(UnknownError, _unknown)
    app.add_exception_handler(NoSuchJob, _no_such_job)
    app.add_exception_handler(QueueFullError, _queue_full)
    app.add_exception_handler(OnnxCheckError, _wrong)


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UnknownError)
    return problems.response(404, f"no-such-{error.what}", str(error))


async def _no_such_job(request: Request, error: Exception) -> JSONResponse:
    return problems.response(404, "no-such-job", str(error))


async def _queue_full(request: Request, error: Exception) -> JSONResponse:
    return problems.response(429, "busy", str(error), headers={"Retry-After": "30"})


async def _wrong(request: Request, error: Exception) -> JSONResponse:
    """What the manifest does not allow, or what is wrong with the manifest or the store itself."""
    for kind, code in ((ManifestError, "manifest"), (StoreError, "store")):
        if isinstance(error, kind):
            return problems.response(503, code, str(error), headers={"Retry-After": "10"})
    return problems.response(409, "refused", str(error))


def _completed(schema: dict[str, Any], *, asks_token: bool) -> dict[str, Any]:
    """The description with what FastAPI does not write: the errors' schema, and the token."""
    components = schema.setdefault("components", {})
    shapes = components.setdefault("schemas", {})
    if problems.Problem.__name__ in shapes:
        return schema
    described = problems.Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    shapes.update(described.pop("$defs"))
    shapes[problems.Problem.__name__] = described
    for unused in ("HTTPValidationError", "ValidationError"):
        shapes.pop(unused, None)
    for path in schema["paths"].values():
        for operation in path.values():
            answers = operation["responses"]
            if "application/json" in answers.get("422", {}).get("content", {}):
                del answers["422"]  # FastAPI's own, which is never given
    if asks_token:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        schema["security"] = [{"token": []}]
    return schema
