"""Servers as users start them: tox's environment `serve` runs these."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from served import small_project

if "ONNXCHECK_SERVE" not in os.environ:
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project."""
    return small_project(tmp_path_factory.mktemp("project"))
