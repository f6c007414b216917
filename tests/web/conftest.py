"""ONNX Runtime in JavaScript, with node, npm and Chromium: tox's environment `web` runs these."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_onnxcheck.engine.environments import node_modules
from pytest_onnxcheck.engine.runtime import worker
from pytest_onnxcheck.processes import Child

if "ONNXCHECK_WEB" not in os.environ:
    collect_ignore_glob = ["test_*.py"]

SCRIPTS = Path(worker.__file__).with_name("javascript")


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the packages are kept: of tox's environment, or of this run."""
    home = os.environ.get("TOX_ENV_DIR")
    return Path(home, "kept", ".environments") if home else tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="session")
def packages(kept: Path) -> Path:
    """The folder with the packages."""
    node = shutil.which("node")
    assert node is not None
    return node_modules(SCRIPTS / "package-lock.json", kept, node=node)


@pytest.fixture(params=["node", "web", "chromium"])
def child(packages: Path, request: pytest.FixtureRequest) -> Iterator[Child]:
    """A worker of onnxruntime-node, or of onnxruntime-web in node or in Chromium."""
    browser = shutil.which("chromium") if request.param == "chromium" else None
    runtime = "node" if request.param == "node" else "web"
    arguments = [str(packages), runtime, *([browser] if browser else [])]
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, "TMPDIR": folder}
        found = Child(
            str(SCRIPTS / "worker.mjs"),
            *arguments,
            program="node",
            environment=environment,
            patience=5.0 if browser else 0.0,
        )
        yield found
        found.close()
