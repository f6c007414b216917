"""The worker of a server: a process that ends with it, and is started again if it dies."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.processes import Child

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.jobs.settings import Settings

__all__ = ["EmbeddedWorker"]

#: seconds between two looks at whether it lives
_LOOK = 1.0
#: seconds that it has to end what it runs
_PATIENCE = 20.0


class EmbeddedWorker:
    """Runs the jobs of a server."""

    def __init__(self, manifest: Path, store: str | None, settings: Settings) -> None:
        """Starts nothing yet.

        Args:
            manifest: The manifest, absolute.
            store: See `open_jobs`.
            settings: What jobs are held to.
        """
        self._start = {
            "manifest": str(manifest),
            "store": store,
            "folder": None,
            "settings": settings.to_json(),
        }
        self._child = Child(
            "-m", "pytest_onnxcheck.serve.jobs.worker", silent=False, patience=_PATIENCE
        )
        self._ending = threading.Event()
        self._watching = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Starts it."""
        self._child.send(self._start)
        self._watching.start()

    def close(self) -> None:
        """Ends it, and what it runs."""
        self._ending.set()
        self._watching.join()
        self._child.close()

    def _watch(self) -> None:
        while not self._ending.wait(_LOOK):
            if not self._child.alive:
                self._child.send(self._start)
