"""How much may be asked at once, and how large a request may be."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pytest_onnxcheck.serve.http.paths import inner_path
from pytest_onnxcheck.serve.http.problems import ProblemError

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.http.security import Access

__all__ = ["Limiter", "Limits", "busy", "has_body", "json_only", "media_type"]

_LATER = {"Retry-After": "1"}
#: where checkpoints are sent
_UPLOAD = re.compile(r"/api/models/[^/]+/checkpoints")


@dataclass(frozen=True)
class Limits:
    """How much one server takes.

    Attributes:
        requests: Requests that are answered at the same time.
        streams: Event streams that are open at the same time, of these.
        body_bytes: Bytes of a request's body, but for an upload.
        upload_bytes: Bytes of an upload.
        login_bytes: Bytes of what is sent to the page that asks for the token.
        login_seconds: Seconds within which that has to come. Everybody may send there: it counts
            among no requests, so that nobody can keep others out.
    """

    requests: int = 256
    streams: int = 64
    body_bytes: int = 2**20
    upload_bytes: int = 2 * 10**9
    login_bytes: int = 2**14
    login_seconds: float = 10.0


def busy(what: str, headers: dict[str, str] | None = None) -> ProblemError:
    """The answer to one request too many."""
    return ProblemError(429, "busy", f"{what}: try again later", headers or _LATER)


class Limiter:
    """Refuses one request too many, and a body beyond the limit.

    Args:
        app: What answers the others.
        limits: How much is taken.
        access: Which page is open to all.
        uploads: Whether checkpoints may be sent.
    """

    def __init__(self, app: ASGIApp, limits: Limits, access: Access, uploads: bool) -> None:
        self._app = app
        self._limits = limits
        self._access = access
        self._uploads = uploads
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on what is within the limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = inner_path(scope)
        counts = path != self._access.login
        try:
            if counts and self._requests >= self._limits.requests:
                raise busy(f"{self._requests} requests are being answered")
            body = _Body(scope, receive, send, *self._bounds(path))
        except ProblemError as error:
            await error.response()(scope, receive, send)
            return
        self._requests += counts
        try:
            await self._app(scope, body.receive, body.send)
        finally:
            self._requests -= counts

    def _bounds(self, path: str) -> tuple[int, str, float]:
        """Bytes of a body, what to do about a larger one, and seconds until it is there."""
        limits = self._limits
        if path == self._access.login:
            return limits.login_bytes, "send the token alone", limits.login_seconds
        if _UPLOAD.fullmatch(path) is None:
            return limits.body_bytes, "send less", math.inf
        if self._uploads:
            return limits.upload_bytes, "start it with a larger --upload-limit", math.inf
        return limits.body_bytes, "checkpoints are taken with --uploads alone", math.inf


class _Body:
    """Watches a body as it comes; whatever the app answers to one beyond its bounds is an error.

    Raises:
        ProblemError: Its header says that it is too large, or nothing that can be read.
    """

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        most: int,
        advice: str,
        seconds: float,
    ) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._left = most
        self._seconds = seconds
        self._until = anyio.current_time() + seconds
        self._too_large = ProblemError(
            413,
            "body-too-large",
            f"the body is larger than the {most:,} bytes that are taken: {advice}",
        )
        self._refusal: ProblemError | None = None
        self._refused = False
        if _length(scope) > most:
            raise self._too_large

    async def receive(self) -> Message:
        """The next part of the body."""
        with anyio.CancelScope(deadline=self._until) as waiting:
            message = await self._receive()
        if waiting.cancelled_caught:
            self._refusal = ProblemError(
                408, "too-slow", f"the body did not come within {self._seconds:g} s: send it again"
            )
            raise self._refusal
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            self._refusal = self._too_large
            raise self._refusal
        return message

    async def send(self, message: Message) -> None:
        """Sends a part of the answer."""
        if self._refusal is None:
            await self._send(message)
        elif not self._refused:
            self._refused = True
            await self._refusal.response()(self._scope, self._receive, self._send)


def _length(scope: Scope) -> int:
    """The length of the body as its header says it; 0 where that says nothing."""
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isdecimal():
        raise ProblemError(400, "bad-request", f"Content-Length is no number: {length!r}")
    return int(length)


def has_body(headers: Headers) -> bool:
    """Whether a request comes with a body."""
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def media_type(headers: Headers) -> str:
    """The type of a body without its parameters, `application/json`; empty where none is said."""
    return headers.get("content-type", "").partition(";")[0].strip().lower()


def json_only(request: Request) -> None:
    """Refuses a body that is not JSON.

    Raises:
        ProblemError: It is of another type.
    """
    given = media_type(request.headers)
    if has_body(request.headers) and given != "application/json":
        raise ProblemError(
            415,
            "not-json",
            f"the body is of type {given or 'none'}: send Content-Type: application/json",
        )
