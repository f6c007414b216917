"""The two kinds of stores: a folder, and a bucket on a server that stands in for a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import s3_server

from pytest_onnxcheck.storage import Store, open_store


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with s3_server.moto_server() as url:
        yield url


@pytest.fixture
def bucket(server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket of its own; the environment has server and credentials."""
    s3_server.use(monkeypatch, server)
    return s3_server.new_bucket(server)


@pytest.fixture(params=["folder", "bucket"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return (tmp_path / "store").as_uri()
    return f"s3://{request.getfixturevalue('bucket')}/some/prefix"


@pytest.fixture
def store(address: str) -> Store:
    return open_store(address)
