"""`onnxcheck inspect`: what an `.onnx` holds."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import pytest_onnxcheck
from pytest_onnxcheck.cli import main


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    graph = "net (float[batch,8] x) => (float[batch,4] y) { h = MatMul(x, w) y = Relu(h) }"
    net = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {graph}')
    weight = np.zeros([8, 4], np.float32)
    net.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    net.producer_name, net.producer_version = "someone", "1.2"
    net.metadata_props.add(key="commit", value="abc")
    note = net.graph.node[0].metadata_props.add()
    note.key, note.value = "trace", 'File "/home/anna/secret/net.py", line 3, /usr/lib/x'
    data = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    onnx.save(net, "net.onnx", **data)
    return Path("net.onnx")


def test_everything_is_shown(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", str(model), "--graph"]) == 0
    out = capsys.readouterr().out
    digest = hashlib.sha256(Path("net.data").read_bytes()).hexdigest()
    for line in [
        "input       x  float32 [batch, 8]",
        "output      y  float32 [batch, 4]",
        "opset       ai.onnx 20",
        "IR version  10",
        "loads in    ONNX Runtime 1.18 and later, by IR version, opsets, operators and",
        "producer    someone 1.2",
        "parameters  32",
        "operators   MatMul 1, Relu 1",
        "metadata    commit = abc",
        "leaks       /home/anna/secret/net.py",
        "file        net.data, 128 bytes, SHA-256",
        f"            {digest}",
        "  h = MatMul(x, w)",
    ]:
        assert line in out.splitlines(), line
    assert max(map(len, out.splitlines())) <= 80


def test_it_is_data_too(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["inspect", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["batch", 8]}]
    assert found["leaked_paths"] == ["/home/anna/secret/net.py"]
    assert "nodes" not in found
    assert pytest_onnxcheck.inspect(model).contents.parameters == 32


def test_data_that_is_not_there_is_a_failure(model: Path, capsys: pytest.CaptureFixture[str]):
    Path("net.data").unlink()
    assert main(["inspect", str(model)]) == 1
    assert "DATA        " in capsys.readouterr().out


@pytest.mark.parametrize(("name", "message"), [("no.onnx", "not found"), ("a.onnx", "not an ONNX")])
def test_what_is_no_model_is_told(
    model: Path, capsys: pytest.CaptureFixture[str], name: str, message: str
):
    Path("a.onnx").write_text("text")
    assert main(["inspect", name]) == 1
    assert f"{name}: {message}" in capsys.readouterr().err
