"""What of Gradio may be reached, and what its page may do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pytest_onnxcheck.serve.http.paths import inner_path
from pytest_onnxcheck.serve.http.problems import ProblemError

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.http.state import State

__all__ = ["PATH", "OnlyThePage"]

#: where the page is
PATH = "/panel"

#: what the page asks for. Gradio has more: uploads, files by their path, proxies
_READ = ("config", "theme.css", "gradio_api/startup-events", "gradio_api/app_id")
_READ_BELOW = ("assets/", "static/")
_HEARTBEAT = "gradio_api/heartbeat/"
_SENT_BELOW = ("gradio_api/run/",)

#: seconds between two looks whether the server is to end
_LOOK = 0.25

#: nothing from elsewhere, whatever a component would like
_POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data:; font-src 'self' data:; "
    "connect-src 'self'; manifest-src 'self'; frame-src 'self'; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)


class OnlyThePage:
    """Hands on what the page needs of Gradio, and refuses what else it would answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Looks at what is below the panel's path; all else is none of its business."""
        path = inner_path(scope) if scope["type"] == "http" else ""
        below, rest = path.startswith(f"{PATH}/"), path.removeprefix(f"{PATH}/")
        if not below:
            await self._app(scope, receive, send)
            return
        if not _is_needed(scope["method"], rest):
            refusal = ProblemError(404, "not-found", "there is no such path").response()
            await refusal(scope, receive, send)
            return

        complete = False

        async def told(message: Message) -> None:
            nonlocal complete
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY
            else:
                complete = not message.get("more_body", False)
            await send(message)

        if not rest.startswith(_HEARTBEAT):
            await self._app(scope, receive, told)
            return
        stream = asyncio.ensure_future(self._app(scope, receive, told))
        await _with_the_server(stream, scope["app"].state.door)
        if stream.cancelled() and not complete:
            await told({"type": "http.response.body", "body": b""})


async def _with_the_server(stream: asyncio.Future[None], door: State) -> None:
    """Waits for a stream, which is cancelled when the server is to end: by itself it would not."""
    while not (stream.done() or door.ending):
        await asyncio.wait([stream], timeout=_LOOK)
    if stream.done():
        await stream
        return
    stream.cancel()
    await asyncio.wait([stream])


def _is_needed(method: str, path: str) -> bool:
    if method == "POST":
        return path.startswith(_SENT_BELOW)
    return method in ("GET", "HEAD") and (
        path == "" or path in _READ or path.startswith((*_READ_BELOW, _HEARTBEAT))
    )
