"""Gated projects, of which each test gets a copy that it may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from gated import Gated, gate


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Gated:
    return gate(tmp_path_factory.mktemp("gated"))


@pytest.fixture
def gated(original: Gated, tmp_path: Path) -> Gated:
    """A copy of the gated project."""
    root = tmp_path / "copy"
    shutil.copytree(original.root, root)
    record = (root / "record.json").read_text()
    (root / "record.json").write_text(record.replace(str(original.root), str(root)))
    return Gated(root)
