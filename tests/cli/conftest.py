"""What the tests of the command share: a folder with models and checkpoints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from project import NETS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with `nets.py`, which is the current one."""
    monkeypatch.chdir(tmp_path)
    for name in ("nets", "digits"):  # another test's folder has one too
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path


@pytest.fixture
def folds(folder: Path) -> Path:
    """Five checkpoints of one model in `folds/`, of which the third is broken."""
    (folder / "folds").mkdir()
    for number in range(1, 6):
        torch.manual_seed(number)
        linear, last = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)
        state = {f"0.{name}": value for name, value in linear.state_dict().items()}
        state |= {f"2.{name}": value for name, value in last.state_dict().items()}
        torch.save(state, folder / "folds" / f"fold{number}.pt")
    whole = (folder / "folds" / "fold3.pt").read_bytes()
    (folder / "folds" / "fold3.pt").write_bytes(whole[:200])
    return folder
