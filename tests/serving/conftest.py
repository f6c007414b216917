"""Servers and workers as users start them, and a real Redis: tox's environment `serve` runs these.

Redis is Debian's redis-server.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from served import small_project
from serving.redis_server import RedisServer

if "ONNXCHECK_SERVE" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project."""
    return small_project(tmp_path_factory.mktemp("project"))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis with a password, that keeps what it is told."""
    assert shutil.which("redis-server"), "apt-get install redis-server"
    with RedisServer(tmp_path / "redis") as server:
        yield server
