"""Starts all of a server: its port, the jobs and their worker, the API and the panel."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.serve.http.app import create_app
from pytest_onnxcheck.serve.http.limits import Limits
from pytest_onnxcheck.serve.http.running import bound, run, url
from pytest_onnxcheck.serve.http.security import Access, is_loopback
from pytest_onnxcheck.serve.jobs.embedded import EmbeddedWorker
from pytest_onnxcheck.serve.jobs.queue import open_jobs
from pytest_onnxcheck.serve.jobs.settings import Settings
from pytest_onnxcheck.serve.jobs.worker import refuse_other_systems

__all__ = ["Server", "serve"]

#: the environment variable with the token
TOKEN = "ONNXCHECK_TOKEN"
#: characters of the shortest token: one that can be guessed is none
_SHORTEST = 16


@dataclass(frozen=True)
class Server:
    """What a server is to be.

    Attributes:
        manifest: The manifest.
        panel: Whether it has the panel.
        host: What it listens on.
        port: The port; 0 for any that is free.
        token: What every request has to show; None for nothing.
        names: More names that it is reached by.
        root_path: The path that a proxy takes off.
        uploads: Bytes of the largest checkpoint that may be sent; None where none may.
        store: Where the jobs are; see `open_jobs`.
        folder: Where the files of jobs are put; likewise.
        worker: What jobs are held to; None where workers of their own run them.
    """

    manifest: Path
    panel: bool
    host: str
    port: int
    token: str | None
    names: tuple[str, ...]
    root_path: str
    uploads: int | None
    store: str | None
    folder: Path | None
    worker: Settings | None


def serve(server: Server, tell: Callable[[str], None]) -> None:
    """Serves until Ctrl-C or SIGTERM.

    Args:
        server: What it is to be.
        tell: Is told where it is, what is wrong with the manifest, and of ends of the worker.

    Raises:
        OnnxCheckError: It cannot be started; the text says why.
        KeyboardInterrupt: It ended by Ctrl-C.
    """
    os.environ.pop(TOKEN, None)  # no job is to know it
    _check_token(server)
    if server.worker is not None:
        refuse_other_systems()
        server.worker.check()
    manifest = server.manifest.absolute()
    found = load_manifest(manifest, shown=str(server.manifest))
    for problem in found.problems:
        tell(problem.text)
    listening = bound(server.host, server.port)
    with listening:
        jobs = open_jobs(manifest, store=server.store, folder=server.folder)
        app = create_app(
            manifest,
            jobs,
            access=Access.of(server.host, server.token, server.names),
            limits=Limits() if server.uploads is None else Limits(upload_bytes=server.uploads),
            uploads_folder=None if server.uploads is None else jobs.files / "uploads",
        )
        if server.panel:
            from pytest_onnxcheck.serve.panel.mount import mount

            mount(app)
        worker = None
        if server.worker is not None:
            worker = EmbeddedWorker(jobs, server.worker, tell)
            worker.start()
        try:
            run(
                app,
                listening,
                root_path=_root(server.root_path),
                ready=lambda: tell(_where(server, url(listening))),
            )
        finally:
            if worker is not None:
                worker.close()


def _check_token(server: Server) -> None:
    """Refuses to be open to others than this machine without a token.

    Raises:
        OnnxCheckError: It would be.
    """
    outside = [name for name in (server.host, *server.names) if not is_loopback(name)]
    make = "make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
    if outside and server.token is None:
        raise OnnxCheckError(
            f"{outside[0]}: others than this machine can reach it, and jobs run code of your "
            f"project: set {TOKEN}, and {make}"
        )
    if server.token is not None and len(server.token) < _SHORTEST:
        raise OnnxCheckError(
            f"the token has {len(server.token)} characters, at least {_SHORTEST} are needed: {make}"
        )


def _root(path: str) -> str:
    """A path with a slash before it and none behind it; empty for the root."""
    return f"/{path.strip('/')}" if path.strip("/") else ""


def _where(server: Server, address: str) -> str:
    what = f"{address}/api/models" if not server.panel else address
    asked = "" if server.token is None else ", with the token"
    return f"onnxcheck serves {server.manifest} at {what}{asked}; Ctrl-C ends it"
