"""Real servers on loopback: Ceph's gateway, and rclone's, which overwrites silently.

These tests run in tox's environment `services` alone.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3_server
from gated import gate
from services import clean
from services.ceph import Ceph, ceph, free_ports, wait_for
from services.proxy import Proxy, proxy
from services.tally import Tally

from pytest_onnxcheck.release import Bundle

if "ONNXCHECK_SERVICES" not in os.environ:
    collect_ignore_glob = ["test_*.py"]

TALLY = Tally()

#: of 36 MB: three parts
LARGE = """
[models.net]
factory = "nets.py:large"
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
release = { variant = "torchscript-op17-fp32", version = "1.0" }
"""
NET = """

def large():
    return torch.nn.Sequential(
        torch.nn.Linear(8, 3000), torch.nn.ReLU(), torch.nn.Linear(3000, 3000),
        torch.nn.ReLU(), torch.nn.Linear(3000, 4),
    )
"""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if TALLY.publishes:
        terminalreporter.section("publishing")
        for line in TALLY.lines():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def tally() -> Tally:
    return TALLY


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of 36 MB."""
    return gate(tmp_path_factory.mktemp("gated"), LARGE, "", more=NET).release()


@pytest.fixture(scope="session")
def another(made: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of another run of the gate on the same sources."""
    return gate(tmp_path_factory.mktemp("again"), LARGE, "", more=NET).release()


@pytest.fixture(scope="session")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with onnxruntime and numpy alone."""
    return clean.environment(tmp_path_factory.mktemp("clean") / "venv")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    with ceph(tmp_path_factory.mktemp("ceph")) as made:
        yield made


@pytest.fixture
def way(server: Ceph) -> Iterator[Proxy]:
    """A proxy before Ceph."""
    with proxy(server.url) as made:
        yield made


@pytest.fixture(scope="session")
def bucket(server: Ceph) -> str:
    """A bucket for all."""
    name = f"bucket-{secrets.token_hex(4)}"
    server.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def uri(bucket: str, server: Ceph, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place of its own on Ceph; the environment has server and credentials."""
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    return f"s3://{bucket}/{secrets.token_hex(4)}"


@pytest.fixture
def rclone(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """rclone's S3 server on a folder, and the folder of its one bucket."""
    (port,) = free_ports(1)
    folder = tmp_path / "rclone"
    (folder / "bucket").mkdir(parents=True)
    keys = f"{s3_server.ACCESS_KEY},{s3_server.SECRET_KEY}"
    command = ["rclone", "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", keys]
    with subprocess.Popen([*command, str(folder)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}", folder / "bucket"
        finally:
            process.kill()
