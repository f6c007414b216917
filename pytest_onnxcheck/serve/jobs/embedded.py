"""The worker of a server: a process of its own, so that the server answers while jobs run."""

from __future__ import annotations

import json
import subprocess
import sys
import threading

from pytest_onnxcheck.serve.jobs.queue import Jobs
from pytest_onnxcheck.serve.jobs.settings import Settings

__all__ = ["EmbeddedWorker"]

#: seconds that it has to end its job and itself, and that are waited before it is started again
_END, _AGAIN = 20.0, 1.0


class EmbeddedWorker:
    """A worker that lives as long as this process, and is started again when it dies.

    Args:
        jobs: The jobs that it works off.
        settings: What they are held to.
    """

    def __init__(self, jobs: Jobs, settings: Settings) -> None:
        self._start = {
            "manifest": str(jobs.manifest),
            "store": jobs.store,
            "folder": str(jobs.files),
            "settings": settings.to_json(),
        }
        self._folder = jobs.manifest.parent
        self._closed = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._keep, name="onnxcheck-worker", daemon=True)

    def start(self) -> None:
        """Starts it."""
        self._thread.start()

    def close(self) -> None:
        """Ends it, and the job that it runs."""
        self._closed.set()
        if (process := self._process) is not None:
            process.terminate()
        self._thread.join(_END + 5.0)

    @property
    def pid(self) -> int | None:
        """Its process; None where none runs at the moment."""
        process = self._process
        return None if process is None or process.poll() is not None else process.pid

    def _keep(self) -> None:
        while not self._closed.is_set():
            process = self._process = subprocess.Popen(
                [sys.executable, "-m", "pytest_onnxcheck.serve.jobs.worker"],
                stdin=subprocess.PIPE,
                text=True,
                cwd=self._folder,
            )
            assert process.stdin is not None
            try:
                # with what may be secret in it, so not among its arguments
                process.stdin.write(json.dumps(self._start) + "\n")
                process.stdin.flush()
            except BrokenPipeError:
                pass
            if self._closed.is_set():
                process.terminate()
            self._wait(process)
            process.stdin.close()
            self._closed.wait(_AGAIN)

    def _wait(self, process: subprocess.Popen[str]) -> None:
        while not self._closed.is_set():
            try:
                process.wait(1.0)
                return
            except subprocess.TimeoutExpired:
                continue
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
