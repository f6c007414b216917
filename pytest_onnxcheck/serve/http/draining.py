"""What is left of a body is taken in before a refusal ends: else its sender never reads the answer.

A connection that is closed with something unread is reset, and the answer is lost on the way.
"""

from __future__ import annotations

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pytest_onnxcheck.serve.http.limits import has_body

__all__ = ["Drain"]

#: so much of what nobody wants is taken in, and thrown away: bytes, and seconds
_MOST, _SECONDS = 8 * 2**20, 2.0


class Drain:
    """Takes in a body that nobody has read, within limits, before an answer ends."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands on a request with a body; others are left alone."""
        if scope["type"] != "http" or not _comes(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        whole = False

        async def received() -> Message:
            nonlocal whole
            message = await receive()
            whole = whole or not message.get("more_body", False)
            return message

        async def told(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                taken = 0
                with anyio.move_on_after(_SECONDS):
                    while not whole and taken < _MOST:
                        taken += len((await received()).get("body", b""))
            await send(message)

        await self._app(scope, received, told)


def _comes(headers: Headers) -> bool:
    """Whether a body comes, whatever is answered: who expects a `100 Continue` waits for that."""
    return has_body(headers) and "expect" not in headers
