"""Fixtures of all tests; what they are made of is in project.py."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3_server
from project import WARM, Project

pytest_plugins = ["pytester"]

# two OpenMP threads wait for one another whenever another process has one of their processors
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_unconfigure() -> None:
    WARM.close()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The URL of a server that stands in for a real S3 server."""
    with s3_server.moto_server() as url:
        yield url


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of its own; the environment has server and credentials."""
    s3_server.use(monkeypatch, server)
    return s3_server.new_bucket(server)
