"""What the tests of the HTTP API share: a small project, and a real server of it in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from pytest_onnxcheck.serve.http.app import create_app
from pytest_onnxcheck.serve.http.running import bound, url
from pytest_onnxcheck.serve.jobs.job import Job, Options
from pytest_onnxcheck.serve.jobs.queue import Jobs

MANIFEST = """
schema = 1

[defaults]
exporters = ["torchscript"]

[models.mlp]
factory = "nets:mlp"
dims = { batch = [1, 2] }
checkpoint = "mlp.pt"
precisions = ["fp32", "fp16"]

[models.mlp.inputs.x]
shape = ["batch", 8]

[models.mlp.outputs.y]
shape = ["batch", 4]

[models.seeded]
factory = "nets:mlp"
dims = { batch = [1, 2] }

[models.seeded.inputs.x]
shape = ["batch", 8]

[models.seeded.outputs.y]
shape = ["batch", 4]
"""

NETS = """
from torch import nn


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
"""


def small_project(folder: Path) -> Path:
    """A manifest of two small models, and the checkpoint of one of them."""
    import torch

    namespace: dict[str, Any] = {}
    exec(NETS, namespace)
    torch.manual_seed(0)
    torch.save(namespace["mlp"]().state_dict(), folder / "mlp.pt")
    (folder / "nets.py").write_text(NETS)
    path = folder / "models.toml"
    path.write_text(MANIFEST)
    return path


def serving(manifest: Path, jobs: Any, **options: Any) -> AbstractContextManager[httpx.Client]:
    """A client of a server on loopback; the options are those of `create_app`."""
    return running(create_app(manifest, jobs, **options))


@contextmanager
def running(app: FastAPI) -> Iterator[httpx.Client]:
    """A client of an app that a server on loopback runs."""
    listening = bound("127.0.0.1", 0)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        while not server.started:
            time.sleep(0.005)
        with httpx.Client(base_url=url(listening), timeout=30) as client:
            client.app = app  # type: ignore[attr-defined]
            yield client
    finally:
        app.state.door.ending = server.should_exit = True
        thread.join()
        listening.close()


def exported_job(
    jobs: Jobs, options: Options | None = None, *, model: str = "mlp", content: bytes = b"onnx"
) -> Job:
    """A job of small_project's that has exported one file, `mlp.onnx`, as a worker leaves it."""
    job = jobs.submit("export", model, options)
    number = int(job.id.partition("-")[0])
    jobs.begin(number, {"name": "here:1", "host": "here", "token": "t"})
    file = {"name": "mlp.onnx", "size_bytes": 4, "sha256": "ab" * 32}
    facts = {"precision": "fp32", "exporter": "torchscript", "opset": 17, "path": "mlp.onnx"}
    facts |= {"size_ratio": 1.0, "checked": None, "error": None, "files": [file]}
    jobs.end(number, "done", result={"files": [facts]})
    folder = jobs.folder(job.id)
    folder.mkdir(parents=True)
    (folder / "mlp.onnx").write_bytes(content)
    return jobs.get(job.id)


def problem(answer: httpx.Response, status: int, code: str) -> str:
    """The text of an answer that is an error, and every error is of one form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    told = answer.json()
    assert told["status"] == status
    assert told["code"] == code
    assert "Traceback" not in answer.text
    return str(told["detail"])
