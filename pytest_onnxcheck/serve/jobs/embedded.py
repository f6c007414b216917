"""The worker of a server: a process of its own, so that the server answers while jobs run."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from pytest_onnxcheck.processes import ended
from pytest_onnxcheck.serve.jobs.queue import Jobs
from pytest_onnxcheck.serve.jobs.settings import Settings

__all__ = ["EmbeddedWorker"]

#: seconds that it has to end its job and itself, and that are waited before it is started again
_END, _AGAIN = 20.0, 1.0
#: ends within so many seconds of a start, so many in a row, after which it is not started again
_SOON, _MOST = 60.0, 3
#: who ends so was ended from outside: the next need not be. At SIGTERM it ends in order, with 0
_FROM_OUTSIDE = (0, -signal.SIGKILL, -signal.SIGTERM)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class EmbeddedWorker:
    """A worker that lives as long as this process, and is started again when it dies.

    One that ends by an error of its own, again and again as soon as it is started, stays so.

    Args:
        jobs: The jobs that it works off.
        settings: What they are held to.
        tell: Is told when it ended, and whether it is started again; default: stderr, where its
            errors are told too.
    """

    def __init__(
        self, jobs: Jobs, settings: Settings, tell: Callable[[str], None] = _print
    ) -> None:
        self._tell = tell
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
        failed = 0
        while not self._closed.is_set():
            began = time.monotonic()
            try:
                status = self._lived()
                how, by_itself = ended(status), status not in _FROM_OUTSIDE
            except OSError as error:
                how, by_itself = f"it cannot be started: {error}", True
            if self._closed.is_set():
                return
            failed = failed + 1 if by_itself and time.monotonic() - began < _SOON else 0
            if failed == _MOST:
                self._tell(
                    f"no job is run any more: the worker ended {failed} times in a row ({how}): "
                    "mend what it said, and start this server again, or onnxcheck worker beside it"
                )
                return
            self._tell(f"the worker of jobs ended ({how}): it is started again")
            self._closed.wait(_AGAIN)

    def _lived(self) -> int:
        """Starts it, and waits until it has ended; its status."""
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
        status = self._waited(process)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        return status

    def _waited(self, process: subprocess.Popen[str]) -> int:
        while not self._closed.is_set():
            try:
                return process.wait(1.0)
            except subprocess.TimeoutExpired:
                continue
        try:
            return process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
