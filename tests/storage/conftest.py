"""The two kinds of stores: a folder, and a bucket on a server that stands in for a real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_onnxcheck.storage import Store, open_store


@pytest.fixture(params=["folder", "bucket"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return (tmp_path / "store").as_uri()
    return f"s3://{request.getfixturevalue('bucket')}/some/prefix"


@pytest.fixture
def store(address: str) -> Store:
    return open_store(address)
