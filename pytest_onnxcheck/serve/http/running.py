"""The server's process: a port, the app on it, and its end."""

from __future__ import annotations

import errno
import os
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from fastapi import FastAPI

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.garbage import leave_out

__all__ = ["bound", "run", "url"]

#: seconds that answers have to end, once the server is told to
_PATIENCE = 3


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        host: A name or address of this machine.
        port: The port; 0 for any that is free.

    Raises:
        OnnxCheckError: It cannot be had; the text says why, and what to do.
    """
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        advice = "name an address of this machine with --host"
        if error.errno == errno.EADDRINUSE:
            advice = "name another with --port, or end what listens there"
        elif error.errno == errno.EACCES:
            advice = "ports below 1024 are root's: name another with --port"
        unknown = isinstance(error, socket.gaierror)
        why = error.strerror if unknown else os.strerror(error.errno or 0)
        raise OnnxCheckError(f"{host}:{port}: cannot listen there: {why}: {advice}") from error


def url(listening: socket.socket) -> str:
    """Where a browser on this machine finds the server."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    app: FastAPI,
    listening: socket.socket,
    *,
    root_path: str = "",
    ready: Callable[[], object] = lambda: None,
) -> None:
    """Answers requests until Ctrl-C or SIGTERM.

    Args:
        app: What `create_app` made.
        listening: The socket.
        root_path: The path that a proxy takes off, without a slash at its end.
        ready: Is called when it is about to answer, and can be ended by either.

    Raises:
        KeyboardInterrupt: It ended by Ctrl-C.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        root_path=root_path,
        timeout_graceful_shutdown=_PATIENCE,
    )
    leave_out("the server's")  # each time that all is walked, every request waits for it
    server = _Server(config, app)
    # before uvicorn looks after it, and when it sends itself the signal again once it has ended:
    # who called this has work to do then
    before = signal.signal(signal.SIGTERM, server.handle_exit)
    try:
        ready()
        server.run([listening])
    finally:
        signal.signal(signal.SIGTERM, before)


class _Server(uvicorn.Server):
    """A server that ends its event streams when it is told to end: they would not by themselves."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.door.ending = True
        super().handle_exit(sig, frame)
