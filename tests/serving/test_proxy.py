"""The proxies of docs/http-api.md in front of a server; but for TLS and ports as written there."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from serving.starting import ended, started

PAGE = Path(__file__).parents[2] / "docs" / "http-api.md"
NAME, TOKEN = "onnx.example.com", "a-token-of-a-decent-length"


def _block(begin: str) -> str:
    """The block of the page that begins so."""
    blocks = re.findall(r"```\w+\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return next(block for block in blocks if block.startswith(begin))


def _nginx(folder: Path, port: int, behind: int) -> list[str]:
    server = re.sub(r" +ssl_.*\n", "", _block("server {"))
    server = server.replace("listen 443 ssl", f"listen 127.0.0.1:{port}")
    server = server.replace("127.0.0.1:8000", f"127.0.0.1:{behind}")
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = folder / "nginx.conf"
    config.write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}} http {{ access_log off; {temporary}\n{server}}}"
    )
    return ["nginx", "-p", str(folder), "-e", f"{folder}/error.log", "-c", str(config)]


def _caddy(folder: Path, port: int, behind: int) -> list[str]:
    site = _block("onnx.example.com {").replace("onnx.example.com {", f"http://{NAME}:{port} {{")
    config = folder / "Caddyfile"
    config.write_text(
        "{\n    admin off\n}\n" + site.replace("127.0.0.1:8000", f"127.0.0.1:{behind}")
    )
    return ["caddy", "run", "--config", str(config), "--adapter", "caddyfile"]


@contextmanager
def _proxy(command: list[str], port: int, home: Path) -> Iterator[str]:
    """The address of a proxy, once it listens; what it keeps of its own is put into a folder."""
    own = {**os.environ, "XDG_CONFIG_HOME": str(home), "XDG_DATA_HOME": str(home)}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=own) as process:
        try:
            end = time.monotonic() + 30
            while time.monotonic() < end:
                with socket.socket() as tried:
                    if tried.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, command
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


@pytest.mark.parametrize("make", [_nginx, _caddy], ids=["nginx", "caddy"])
def test_the_recipe_of_the_page(manifest: Path, tmp_path: Path, make):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ("--allowed-host", NAME, "--root-path", "/onnx", "--uploads")
    with started(manifest, *options, ONNXCHECK_TOKEN=TOKEN) as (url, _):
        command = make(tmp_path, port, urlsplit(url).port)
        if shutil.which(command[0]) is None:
            pytest.skip(f"{command[0]} is not installed")
        headers = {"Host": f"{NAME}:{port}", "Authorization": f"Bearer {TOKEN}"}
        with (
            _proxy(command, port, tmp_path) as outside,
            httpx.Client(base_url=outside, headers=headers, timeout=60) as client,
        ):
            assert client.get("/onnx/api/models", headers={"Authorization": ""}).status_code == 401
            described = client.get("/onnx/api/openapi.json").json()
            assert described["servers"] == [{"url": "/onnx/api"}]
            asked = client.post(
                "/onnx/api/models/mlp/export-onnx",
                json={"precisions": ["fp32"]},
                headers={"Origin": f"http://{NAME}:{port}"},
            )
            assert asked.status_code == 202, asked.text
            place = asked.headers["location"]
            assert place == f"/onnx/api/jobs/{asked.json()['id']}"
            _comes_at_once(client, place)
            with httpx.Client(base_url=f"{outside}/onnx", headers=headers) as inner:
                assert ended(inner, asked.json()["id"])["state"] == "done"
            known = client.get("/onnx/api/models/mlp").json()["artefacts"][0]
            assert known["url"].startswith("/onnx/api/models/mlp/artefact/")
            whole = client.get(known["url"])
            assert whole.headers["etag"] == f'"{known["files"][0]["sha256"]}"'
            part = client.get(known["url"], headers={"Range": "bytes=0-9"})
            assert (part.status_code, part.content) == (206, whole.content[:10])
            large = client.post(
                "/onnx/api/models/mlp/checkpoints",
                content=b"x" * 3_000_000,
                headers={"Content-Type": "application/octet-stream"},
            )
            assert large.json()["code"] == "refused-checkpoint"


def _comes_at_once(client: httpx.Client, place: str) -> None:
    """The first events come while the job runs, and are not kept back to its end."""
    with client.stream("GET", f"{place}/events") as stream:
        first = next(chunk for chunk in stream.iter_text() if chunk)
    assert '"state": "done"' not in first
