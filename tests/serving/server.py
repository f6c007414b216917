"""A server that has nothing but the worker that every server has: `python server.py MANIFEST`."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from pytest_onnxcheck.serve.jobs.embedded import EmbeddedWorker
from pytest_onnxcheck.serve.jobs.queue import open_jobs
from pytest_onnxcheck.serve.jobs.settings import Settings

worker = EmbeddedWorker(open_jobs(Path(sys.argv[1])), Settings())
worker.start()
print("started", flush=True)
threading.Event().wait()
