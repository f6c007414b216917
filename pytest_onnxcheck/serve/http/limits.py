"""How much may be asked at once, and how large a request may be."""

from __future__ import annotations

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pytest_onnxcheck.serve.http.paths import inner_path
from pytest_onnxcheck.serve.http.problems import ProblemError

__all__ = ["Limiter", "Limits", "busy", "json_only"]

_LATER = {"Retry-After": "1"}


@dataclass(frozen=True)
class Limits:
    """How much one server takes.

    Attributes:
        requests: Requests that are answered at the same time.
        streams: Event streams that are open at the same time, of these.
        body_bytes: Bytes of a request's body, but for an upload.
        upload_bytes: Bytes of an upload.
    """

    requests: int = 256
    streams: int = 64
    body_bytes: int = 2**20
    upload_bytes: int = 2 * 10**9


def busy(what: str, headers: dict[str, str] | None = None) -> ProblemError:
    """The answer to one request too many."""
    return ProblemError(429, "busy", f"{what}: try again later", headers or _LATER)


class Limiter:
    """Refuses one request too many, and a body beyond the limit."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app = app
        self._limits = limits
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on what is within the limits."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        upload = inner_path(scope).endswith("/checkpoints")
        most = self._limits.upload_bytes if upload else self._limits.body_bytes
        try:
            if self._requests >= self._limits.requests:
                raise busy(f"{self._requests} requests are being answered")
            if _length(scope) > most:
                raise _too_large(most)
        except ProblemError as error:
            await error.response()(scope, receive, send)
            return
        self._requests += 1
        try:
            body = _Body(scope, receive, send, most)
            await self._app(scope, body.receive, body.send)
        finally:
            self._requests -= 1


class _Body:
    """Counts a body as it comes; whatever the app answers to one that is too large is a 413."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, most: int) -> None:
        self._scope, self._receive, self._send = scope, receive, send
        self._most = self._left = most
        self._refused = False

    async def receive(self) -> Message:
        """The next part of the body."""
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            raise _TooLargeError
        return message

    async def send(self, message: Message) -> None:
        """Sends a part of the answer."""
        if self._left >= 0:
            await self._send(message)
        elif not self._refused:
            self._refused = True
            await _too_large(self._most).response()(self._scope, self._receive, self._send)


class _TooLargeError(Exception):
    """A body went beyond the limit while it was read."""


def _length(scope: Scope) -> int:
    """The length of the body as its header says it; 0 where that says nothing."""
    length = Headers(scope=scope).get("content-length", "0")
    if not length.isdecimal():
        raise ProblemError(400, "bad-request", f"Content-Length is no number: {length!r}")
    return int(length)


def _too_large(most: int) -> ProblemError:
    return ProblemError(
        413, "body-too-large", f"the body is larger than the {most:,} bytes that are taken"
    )


def json_only(request: Request) -> None:
    """Refuses a body that is not JSON.

    Raises:
        ProblemError: It is of another type.
    """
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    has_body = request.headers.get("content-length", "0") != "0"
    has_body |= "transfer-encoding" in request.headers
    if has_body and given != "application/json":
        raise ProblemError(
            415,
            "not-json",
            f"the body is of type {given or 'none'}: send Content-Type: application/json",
        )
