"""What of Gradio may be reached, and what its page may do."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.routing import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pytest_onnxcheck.serve.http.problems import ProblemError

__all__ = ["PATH", "OnlyThePage"]

#: where the page is
PATH = "/panel"

#: what the page asks for. Gradio has more: uploads, files by their path, proxies
_READ = ("config", "theme.css", "gradio_api/startup-events")
_READ_BELOW = ("assets/", "static/", "gradio_api/heartbeat/")
_SENT_BELOW = ("gradio_api/run/",)

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
        path = get_route_path(scope) if scope["type"] == "http" else ""
        below, rest = path.startswith(f"{PATH}/"), path.removeprefix(f"{PATH}/")
        if not below:
            await self._app(scope, receive, send)
            return
        if not _is_needed(scope["method"], rest):
            refusal = ProblemError(404, "not-found", "there is no such path").response()
            await refusal(scope, receive, send)
            return

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = _POLICY
            await send(message)

        await self._app(scope, receive, told)


def _is_needed(method: str, path: str) -> bool:
    if method == "POST":
        return path.startswith(_SENT_BELOW)
    return method in ("GET", "HEAD") and (
        path == "" or path in _READ or path.startswith(_READ_BELOW)
    )
