"""Fixtures of all tests; what they are made of is in project.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from project import WARM, Project

pytest_plugins = ["pytester"]

# two OpenMP threads wait for one another whenever another process has one of their processors
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_unconfigure() -> None:
    WARM.close()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)
