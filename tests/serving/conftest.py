"""Servers and workers as processes of their own, and a real Redis: Debian's redis-server.

These tests run in tox's environment `serve` alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving.redis_server import RedisServer

if "ONNXCHECK_SERVE" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis with a password, that keeps what it is told."""
    assert shutil.which("redis-server"), "apt-get install redis-server"
    with RedisServer(tmp_path / "redis") as server:
        yield server
