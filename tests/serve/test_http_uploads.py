"""The folder of what was sent: odd files in it, what a killed server left, who takes none."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from served import problem, serving, small_project
from working import until

from pytest_onnxcheck.serve.jobs.queue import open_jobs
from pytest_onnxcheck.serve.uploads import Upload, Uploads

BYTES = {"Content-Type": "application/octet-stream"}


def test_what_else_lies_among_the_uploads_is_left_alone(tmp_path: Path):
    manifest, folder = small_project(tmp_path), tmp_path / "uploads"
    file = tmp_path / "x.safetensors"
    save_file({"0.weight": torch.ones(16, 8)}, file)
    with serving(manifest, open_jobs(manifest), uploads_folder=folder) as client:
        path = "/api/models/mlp/checkpoints"
        made = client.post(path, content=file.read_bytes(), headers=BYTES).json()["name"]
        written = json.loads((folder / f"{made}.json").read_text())
        (folder / "mlp-0.pt").write_bytes(b"")
        for number, text in enumerate(
            [
                *("", "[]", "{", "{}", json.dumps({**written, "size_bytes": "many"})),
                json.dumps({**written, "name": "mlp-5", "file": "../models.toml"}),
                json.dumps({**written, "name": "mlp-6", "file": "not-there.pt"}),
            ]
        ):
            (folder / f"mlp-{number}.json").write_text(text)
        (folder / "folder.json").mkdir()
        (folder / "bytes.json").write_bytes(b"\xff\xfe")
        known = client.get("/api/models/mlp")
        assert known.status_code == 200, known.text
        assert [it["name"] for it in known.json()["checkpoints"]] == [made, "mlp.pt"]


def test_half_of_an_upload_is_gone_when_its_server_was_killed(tmp_path: Path):
    manifest = small_project(tmp_path)
    folder = tmp_path / ".onnxcheck" / "serve" / "uploads"
    command = [sys.executable, "-m", "pytest_onnxcheck.cli", "serve", "--api", "--uploads"]
    with subprocess.Popen(
        [*command, "--port", "0", "--no-worker"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stderr is not None
        port = int(server.stderr.readline().partition("127.0.0.1:")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as sent:
            sent.sendall(
                b"POST /api/models/mlp/checkpoints HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Length: 1000\r\nContent-Type: application/octet-stream\r\n\r\nhalf"
            )
            until(lambda: folder.is_dir() and [*folder.rglob("*")])
            server.kill()
    assert [*folder.iterdir()] != []
    with serving(manifest, open_jobs(manifest), uploads_folder=folder):
        assert [*folder.iterdir()] == []


def test_two_that_are_sent_are_looked_at_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each takes a process with gigabytes."""
    keep, running, seen = Uploads.keep, set(), []

    def kept(uploads: Uploads, model: str, received: Path) -> Upload:
        running.add(received)
        seen.append(len(running))
        try:
            return keep(uploads, model, received)
        finally:
            running.remove(received)

    monkeypatch.setattr(Uploads, "keep", kept)
    path = small_project(tmp_path)
    content = (tmp_path / "mlp.pt").read_bytes()
    with (
        serving(path, open_jobs(path), uploads_folder=tmp_path / "uploads") as client,
        ThreadPoolExecutor(5) as threads,
    ):

        def send(_: int) -> int:
            url = "/api/models/mlp/checkpoints"
            return client.post(url, content=content, headers=BYTES, timeout=120).status_code

        assert [*threads.map(send, range(5))] == [201] * 5
    assert max(seen) == 2


def test_nothing_is_sent_for_a_model_whose_checkpoints_may_run_code(tmp_path: Path):
    path = small_project(tmp_path)
    text = path.read_text()
    path.write_text(text.replace('checkpoint = "mlp.pt"', 'checkpoint = "mlp.pt"\ntrust = true'))
    with serving(path, open_jobs(path), uploads_folder=tmp_path / "uploads") as client:
        answer = client.post("/api/models/mlp/checkpoints", content=b"x", headers=BYTES)
        assert "trust = true" in problem(answer, 409, "trusted")
        other = client.post("/api/models/seeded/checkpoints", content=b"", headers=BYTES)
        assert "it is empty" in problem(other, 422, "refused-checkpoint")


def test_nothing_is_sent_for_a_model_of_a_pretrained_folder(tmp_path: Path):
    path = small_project(tmp_path)
    (tmp_path / "saved").mkdir()
    path.write_text(path.read_text().replace('checkpoint = "mlp.pt"', 'pretrained = "saved"'))
    with serving(path, open_jobs(path), uploads_folder=tmp_path / "uploads") as client:
        answer = client.post("/api/models/mlp/checkpoints", content=b"x", headers=BYTES)
        assert "mlp is read from a folder of save_pretrained" in problem(answer, 409, "pretrained")
