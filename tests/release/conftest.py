"""Gated projects, of which each test gets a copy that it may change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from gated import Gated, gate

from pytest_onnxcheck.cli import main


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


@pytest.fixture
def command(
    gated: Gated, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `onnxcheck` in the project's folder: exit status, stdout, stderr."""
    monkeypatch.chdir(gated.root)

    def run(*arguments: str) -> tuple[int, str, str]:
        status = main(list(arguments))
        said = capsys.readouterr()
        return status, said.out, said.err

    return run
