"""A server that stands in for a real S3 server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import s3_server


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with s3_server.moto_server() as url:
        yield url


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of its own; the environment has server and credentials."""
    s3_server.use(monkeypatch, server)
    return s3_server.new_bucket(server)
