"""`onnxcheck bench`, `onnxcheck validate --onnx`, and a run from Python."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from project import mlps

import pytest_onnxcheck
from pytest_onnxcheck.cli import main

FAST = ["--exporter", "torchscript", "--opset", "17"]


@pytest.fixture
def shipped(folds: Path) -> Path:
    """The first fold, exported to `shipped.onnx`."""
    arguments = ["--checkpoint", "folds/fold1.pt", "--output", "shipped.onnx", "--no-validate"]
    assert main(["export", *arguments, *FAST]) == 0
    return folds


def test_an_artefact_is_timed_beside_pytorch(shipped: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--checkpoint", "folds/fold1.pt", "--onnx", "shipped.onnx", "--seconds", "0.2"]
    capsys.readouterr()
    assert main(["bench", *arguments, "--batch-size", "5"]) == 0
    head, columns, line = capsys.readouterr().out.splitlines()
    assert head == "shipped on cpu"
    assert columns.split() == ["precision", "point", "median", "PyTorch", "speed-up"]
    assert line.split()[:2] == ["fp32", "batch5"]
    assert main(["bench", *arguments, "--target", "cpo"]) == 1
    assert "no target 'cpo'; there are: cpu, cuda" in capsys.readouterr().err
    assert main(["bench", *arguments, "--target", "cuda"]) == 1
    assert "CUDAExecutionProvider is not in this onnxruntime" in capsys.readouterr().err


def test_what_is_exported_is_timed_at_the_manifests_points(folds: Path):
    (folds / "models.toml").write_text("schema = 1\n" + mlps("net"))
    found = pytest_onnxcheck.benchmark(
        manifest="models.toml", exporter="torchscript", opset=17, seconds=0.2
    )
    assert [timed.point for timed in found.timed] == ["batch1", "batch3"]
    assert all(timed.speedup > 0 for timed in found.timed)
    assert found.to_json()["timed"][0]["milliseconds"] > 0


def test_an_artefact_is_compared_with_its_weights(
    shipped: Path, capsys: pytest.CaptureFixture[str]
):
    capsys.readouterr()
    own = ["validate", "--onnx", "shipped.onnx", "--checkpoint", "folds/fold1.pt"]
    assert main(own) == 0
    assert capsys.readouterr().out.startswith("shipped.onnx  pass  max ")
    assert main(["validate", "--onnx", "shipped.onnx", "--checkpoint", "folds/fold2.pt"]) == 1
    out = capsys.readouterr().out
    assert out.startswith("shipped.onnx  fail  max ")
    assert "\n     FAIL output 'output'" in out
    (shipped / "models.toml").write_text("schema = 1\n" + mlps("net"))
    assert main([*own, "models.toml", "--model", "net", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert any("shipped.onnx" in text or "input" in text for text in found["failures"])


def test_wrong_usage_of_a_comparison_is_told(shipped: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert main(["validate", "--checkpoint", "folds/fold1.pt"]) == 2
    assert "--checkpoint goes with --onnx PATH" in capsys.readouterr().err
    assert main(["validate", "--onnx", "no.onnx", "--checkpoint", "folds/fold1.pt"]) == 1
    assert "no.onnx: not found" in capsys.readouterr().err
    model = onnx.load("shipped.onnx")
    model.graph.output.append(model.graph.input[0])
    onnx.save(model, "two.onnx")
    assert main(["validate", "--onnx", "two.onnx", "--checkpoint", "folds/fold1.pt"]) == 1
    err = capsys.readouterr().err
    assert "two.onnx has 2 outputs (output, input), and PyTorch returns 1" in err


def test_a_run_gives_its_record(folder: Path):
    (folder / "models.toml").write_text(
        '[defaults]\nexporters = ["torchscript"]\nopsets = [17]\n' + mlps("a", "b")
    )
    text = (folder / "models.toml").read_text()
    (folder / "models.toml").write_text(f"schema = 1\n{text}")
    found = pytest_onnxcheck.run("models.toml", models=["a"], arguments=["-m", "structure"])
    assert found.exitstatus == 0
    assert [(entry.model, entry.check) for entry in found.checks] == [("a", "structure")]
    with pytest.raises(
        pytest_onnxcheck.OnnxCheckError, match=r"no.toml: pytest ended with 4 and ran nothing:\n"
    ):
        pytest_onnxcheck.run("no.toml")
