"""Every error is an answer of RFC 9457, `application/problem+json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

__all__ = ["MEDIA_TYPE", "Fault", "Problem", "ProblemError", "answers", "handle", "response"]

MEDIA_TYPE = "application/problem+json"

#: what any request may be answered with
_ALWAYS = (400, 401, 403, 404, 413, 421, 429, 500, 503)

#: `code` of what is told by its status alone
_CODES = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large"}

_SENTENCES = {
    400: "the request is cut off, or its body is no text",
    401: "the token is missing or wrong",
    403: "the request comes from a page of another site, or asks for what is switched off",
    404: "there is no such model, job, file or path",
    409: "the job has ended, or the manifest does not allow what is asked for",
    413: "the body is larger than the limit",
    415: "the body is of another type",
    416: "the range lies outside the file",
    421: "the Host header names another server",
    422: "the body is no JSON, or an option is wrong",
    429: "too many requests at once, or too many jobs in the queue: see Retry-After",
    500: "an error of the server, which stands in its log",
    503: "the manifest or the store of jobs cannot be used as it is now",
}


class Fault(BaseModel):
    """One thing that is wrong in a request."""

    where: str = Field(description="The parameter or key.", examples=["body.opset"])
    message: str = Field(description="What is wrong with it.")


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Not Found",
                "status": 404,
                "detail": "there is no model 'wakewrd' (did you mean 'wakeword'?)",
                "code": "no-such-model",
            }
        }
    )

    type: str = Field("about:blank", description="Always about:blank: see `code`.")
    title: str = Field(description="The status in words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What is wrong, and how to mend it.")
    code: str = Field(description="What is wrong, for programs.")
    errors: list[Fault] | None = Field(None, description="Each wrong option, where some are.")


class ProblemError(Exception):
    """An answer that is an error.

    Args:
        status: The HTTP status.
        code: What is wrong, for programs: words joined by hyphens.
        detail: What is wrong, and how to mend it.
        headers: Headers besides.
    """

    def __init__(
        self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.headers = dict(headers or {})

    def response(self) -> JSONResponse:
        """The answer."""
        return response(self.status, self.code, self.detail, headers=self.headers)


def response(
    status: int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: Iterable[Fault] = (),
) -> JSONResponse:
    """An error as an answer; see `Problem`."""
    title = HTTPStatus(status).phrase
    faults = list(errors) or None
    problem = Problem(title=title, status=status, detail=detail, code=code, errors=faults)
    content = problem.model_dump(exclude_none=True, by_alias=True)
    content = {"type": problem.type, **content}
    return JSONResponse(content, status, headers, MEDIA_TYPE)


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an operation, for OpenAPI: these, and those that any may have."""
    schema = {"$ref": f"#/components/schemas/{Problem.__name__}"}
    content = {MEDIA_TYPE: {"schema": schema}}
    every = sorted({*_ALWAYS, *statuses})
    return {status: {"description": _SENTENCES[status], "content": content} for status in every}


def handle(app: FastAPI) -> None:
    """Makes every error of an app a problem."""
    app.add_exception_handler(ProblemError, _told)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _by_status)
    app.add_exception_handler(Exception, _unexpected)


async def _told(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return error.response()


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = [
        Fault(where=".".join(map(str, found["loc"])), message=_message(found))
        for found in error.errors()
    ]
    detail = "; ".join(f"{fault.where}: {fault.message}" for fault in faults)
    return response(422, "invalid-request", detail, errors=faults)


def _message(found: Mapping[str, Any]) -> str:
    why = found.get("ctx", {}).get("error") if found["type"] == "json_invalid" else None
    return str(found["msg"]) if why is None else f"{found['msg']}: {why}"


async def _by_status(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path, status = request.scope["path"], error.status_code
    details = {
        404: f"there is nothing at {path}: see {_openapi(request)}",
        405: f"{path} does not take {request.method}",
        413: "the body is larger than this server takes",
    }
    code = _CODES.get(status, HTTPStatus(status).phrase.lower().replace(" ", "-"))
    headers = dict(error.headers or {})
    if status == 405 and (methods := _methods(request)):
        headers["Allow"] = ", ".join(methods)
    return response(status, code, details.get(status, str(error.detail)), headers=headers)


def _methods(request: Request) -> list[str]:
    """The methods that a path takes: what a router says names those of its first route alone."""
    path = getattr(request.scope.get("route"), "path_format", "")
    return sorted(method.upper() for method in request.app.openapi()["paths"].get(path, ()))


async def _unexpected(request: Request, error: Exception) -> JSONResponse:
    return response(
        500,
        "internal-error",
        "this is an error of the server, whose log tells more of it",
        headers={"Connection": "close"},  # uvicorn ends it after an error, told or not
    )


def _openapi(request: Request) -> str:
    root = str(request.scope.get("app_root_path", request.scope.get("root_path", "")))
    return f"{root.removesuffix('/api')}/api/openapi.json"
