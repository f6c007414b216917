"""The scripts in docs/examples do what export scripts do by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch

import pytest_onnxcheck
from pytest_onnxcheck import export_model

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"

NET = """
from torch import nn


def build(config):
    layers = [nn.Linear(8, config["hidden"]), nn.ReLU(), nn.Linear(config["hidden"], 4)]
    return nn.Sequential(*layers).eval()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model's code and one checkpoint of it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "net", raising=False)
    (tmp_path / "net.py").write_text(NET)
    save("model.pt", 0)
    return tmp_path


def save(path: str, seed: int) -> None:
    torch.manual_seed(seed)
    layers = [torch.nn.Linear(8, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4)]
    state = torch.nn.Sequential(*layers).state_dict()
    torch.save({"model_state_dict": state, "config": {"hidden": 64}, "epoch": 3}, path)


def example(name: str) -> tuple[int, str]:
    """Runs a script in a process of its own, in the current folder."""
    paths = [str(Path(pytest_onnxcheck.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, str(EXAMPLES / name)]
    ran = subprocess.run(command, env=env, capture_output=True, text=True)
    print(ran.stdout, ran.stderr)  # shown when the test fails
    return ran.returncode, ran.stdout


def test_each_has_ten_lines_of_code_at_most():
    for path in EXAMPLES.glob("*.py"):
        code = [line for line in path.read_text().splitlines()[1:] if line.strip()]
        assert len(code) <= 10, path.name


def test_a_checkpoint_is_released(folder: Path):
    status, out = example("release.py")
    assert status == 0
    assert re.search(r"^fp32: \d+ bytes, 100% of fp32, max difference \d", out, re.MULTILINE)
    assert re.search(r"^int8-dynamic: \d+ bytes, \d+% of fp32, max ", out, re.MULTILINE)
    assert len(re.findall(r"^\S+: [\d.]+ ms, [\d.]+ times PyTorch$", out, re.MULTILINE)) == 3
    names = sorted(path.name for path in (folder / "release").iterdir())
    assert names == ["model-fp16.onnx", "model-int8-dynamic.onnx", "model.onnx"]


def test_one_fold_of_five_that_is_broken_stops_no_other(folder: Path):
    (folder / "folds").mkdir()
    for number in range(1, 6):
        save(f"folds/{number}.pt", number)
    (folder / "folds" / "2.pt").write_bytes(b"PK")
    status, out = example("folds.py")
    assert status == 1
    lines = out.splitlines()
    assert lines[0] == "folds/1.pt exported"
    assert lines[1].startswith("folds/2.pt failed: folds/2.pt: cannot be read")
    assert len(list((folder / "release").glob("*.onnx"))) == 4


def test_what_was_shipped_is_validated(folder: Path):
    fast = {"exporter": "torchscript", "opset": 17, "validate": False}
    export_model("model.pt", output="shipped.onnx", **fast)
    status, out = example("validation.py")
    assert status == 0
    assert "opset 17, ONNX Runtime 1.12 and later\n" in out
    assert re.search(r"^pass max difference \d", out, re.MULTILINE)
    model = onnx.load("shipped.onnx")
    weight = onnx.numpy_helper.to_array(model.graph.initializer[0]) * 1.01
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(weight, model.graph.initializer[0].name)
    )
    onnx.save(model, "shipped.onnx")
    status, out = example("validation.py")
    assert status == 1
    assert "fail max difference" in out
