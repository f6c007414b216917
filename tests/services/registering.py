"""Registers a bundle in another process, which can be killed."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

#: forks of a process that has imported MLflow: importing it takes seconds
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["mlflow", "boto3", "pytest_onnxcheck.release.registry"])

#: how long a call may take to its first request: on a loaded machine the first one's imports do
SECONDS = 180


class Placed(NamedTuple):
    """A bundle, and where it is published.

    Attributes:
        folder: The bundle.
        source: The URI of its release.
        environ: What says where that server is, and who asks.
    """

    folder: Path
    source: str
    environ: Mapping[str, str]


class Call:
    """A call of `register` that runs."""

    def __init__(self, url: str, bundle: Placed, name: str, at: float = 0.0) -> None:
        self._answer, sender = _CONTEXT.Pipe(duplex=False)
        self.process = _CONTEXT.Process(target=_register, args=(sender, url, bundle, name, at))
        self.process.start()
        sender.close()

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.join()

    def result(self) -> Any:
        """The version, or the text of an error."""
        try:
            return self._answer.recv()
        finally:
            self.process.join()


def _register(sender: Any, url: str, bundle: Placed, name: str, at: float) -> None:
    os.environ.update(bundle.environ)
    os.environ["MLFLOW_TRACKING_URI"] = url
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"

    from pytest_onnxcheck.errors import ReleaseError
    from pytest_onnxcheck.release import register

    time.sleep(max(0.0, at - time.monotonic()))
    try:
        sender.send(
            register(bundle.folder, bundle.source, name, alias="candidate", stage="Staging")
        )
    except ReleaseError as error:
        sender.send(str(error))
