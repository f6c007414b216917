"""`onnxcheck export`: one or many checkpoints, each a line; what fails stops no other."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from project import mlps

import pytest_onnxcheck
from pytest_onnxcheck.cli import main
from pytest_onnxcheck.engine.artefacts.artefact import Artefact, Notes
from pytest_onnxcheck.engine.artefacts.placing import place

FAST = ["--exporter", "torchscript", "--opset", "17"]


def export(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["export", *arguments])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_one_of_five_that_is_broken_stops_no_other(folds: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--pattern", "folds/*.pt", "--factory", "nets.py:mlp", "--output", "out", *FAST]
    status, out, _ = export(capsys, *arguments)
    assert status == 1
    lines = out.splitlines()
    number = r"max \d\.\de-\d\d \(\S+ floors\) +excellent"
    for place_ in (1, 2, 4, 5):
        line = next(line for line in lines if line.startswith(f"{place_}/5"))
        assert re.fullmatch(rf"{place_}/5  folds/fold{place_}.pt  +\S+ kB  {number}", line), line
    assert "3/5  folds/fold3.pt  failed" in lines
    reason = lines[lines.index("3/5  folds/fold3.pt  failed") + 1]
    assert "fold3.pt: cannot be read: " in reason
    assert lines[-1] == f"4 of 5 exported, 1 failed; 4 files in {folds / 'out'}"
    assert max(map(len, lines[:-1])) <= 80
    names = sorted(path.name for path in (folds / "out").iterdir())
    assert names == ["fold1.onnx", "fold2.onnx", "fold4.onnx", "fold5.onnx"]


def test_precisions_lie_beside_one_another(folds: Path, capsys: pytest.CaptureFixture[str]):
    (folds / "models.toml").write_text(
        "schema = 1\n" + mlps("net").replace("dims", 'checkpoint = "folds/fold[12].pt"\ndims')
    )
    precisions = ["--precision", "fp16", "--precision", "fp32"]
    arguments = ["--checkpoint", "folds/fold1.pt", *FAST, *precisions, "--metrics", "--verbose"]
    status, out, _ = export(capsys, *arguments)
    assert status == 0
    assert "[models.net] of models.toml" in out
    assert re.search(r"MSE \d\.\d+e-\d+, cosine 1\.0000", out)
    assert [path.name for path in sorted((folds / "folds").glob("*.onnx"))] == [
        "fold1-fp16.onnx",
        "fold1.onnx",
    ]
    assert re.search(r"^     fp16 +\S+ kB +\d+%  max ", out, re.MULTILINE)
    # as another process would use it: with the weights of this checkpoint, at any batch
    session = onnxruntime.InferenceSession("folds/fold1.onnx")
    given = np.ones([5, 8], np.float32)
    state = torch.load("folds/fold1.pt")
    hidden = torch.relu(torch.from_numpy(given) @ state["0.weight"].T + state["0.bias"])
    expected = hidden @ state["2.weight"].T + state["2.bias"]
    np.testing.assert_allclose(session.run(None, {"x": given})[0], expected, atol=1e-5)


def test_a_static_export_takes_one_batch(folds: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--checkpoint", "folds/fold1.pt", "--output", "one.onnx", *FAST]
    arguments += ["--static", "--batch-size", "6", "--json", "--input", "input=batch,8"]
    status, out, _ = export(capsys, *arguments)
    assert status == 0
    (outcome,) = json.loads(out)
    assert outcome["exported"]["files"][0]["path"] == "one.onnx"
    assert outcome["exported"]["files"][0]["checked"]["grade"] == "pass"
    (value,) = onnx.load("one.onnx").graph.input
    assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == [6, 8]


def test_what_fails_its_checks_is_not_written(folder: Path, capsys: pytest.CaptureFixture[str]):
    text = """schema = 1
    [models.net]
    factory = "nets.py:baked_batch"
    dims = { batch = [2, 3] }
    inputs.x.shape = ["batch", 8]
    outputs.y.shape = ["batch", 2, 2]
    """
    (folder / "models.toml").write_text(text)
    torch.save({f"linear.{n}": v for n, v in torch.nn.Linear(8, 4).state_dict().items()}, "w.pt")
    arguments = ["--checkpoint", "w.pt", "--manifest", "models.toml", "--model", "net", *FAST]
    status, out, _ = export(capsys, *arguments)
    assert status == 1
    assert "failed\n" in out
    assert "     not written (--no-validate writes it)\n     run [batch=3/draw0]: " in out
    assert not (folder / "w.onnx").exists()
    status, out, _ = export(capsys, *arguments, "--no-validate")
    assert status == 0
    assert "not compared" in out
    assert (folder / "w.onnx").exists()


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "give either --checkpoint PATH or --pattern GLOB"),
        (["--pattern", "*.pt", "--checkpoint", "a.pt"], 2, "give either --checkpoint PATH or"),
        (["--pattern", "no*.pt"], 1, "no file matches 'no*.pt'"),
        (["--pattern", "folds/*.pt", "--output", "a.onnx"], 1, "5 checkpoints cannot go into one"),
        (["--checkpoint", "a.pt", "--precision", "fp8"], 2, "'fp8' is not one of fp32, fp16"),
        (["--checkpoint", "a.pt", "--input", "x"], 2, "write NAME=SIZE,SIZE"),
        (["--checkpoint", "a.pt", "--input", "x=b,3"], 2, "a size is a number from 1 up"),
    ],
)
def test_wrong_usage_is_a_sentence(
    folds: Path, capsys: pytest.CaptureFixture[str], arguments, status, message
):
    found, out, err = export(capsys, *arguments)
    assert found == status
    assert message in out + err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint", "no.pt"], "checkpoint not found: no.pt"),
        (["--checkpoint", "folds/fold1.pt", "--factory", "nets.py:conv"], "does not fit"),
        (
            ["--checkpoint", "folds/fold1.pt", "--manifest", "no.toml"],
            "no.toml: there is no such manifest",
        ),
        (
            ["--checkpoint", "folds/fold1.pt", "--manifest", "two.toml"],
            "two.toml: it cannot be told which model is meant; name one of: a, b (--model NAME)",
        ),
        (["--checkpoint", "folds/fold1.pt", "--model", "c"], "c: no manifest has it"),
        (
            ["--checkpoint", "a.pt", "--manifest", "two.toml", "--factory", "nets.py:mlp"],
            "leave out either the manifest or factory and inputs",
        ),
        (
            ["--checkpoint", "folds/fold1.pt", "--input", "input=batch,9"],
            "PyTorch ran on none of",
        ),
    ],
)
def test_what_keeps_a_checkpoint_from_being_exported_is_told(
    folds: Path, capsys: pytest.CaptureFixture[str], arguments, message: str
):
    (folds / "two.toml").write_text("schema = 1\n" + mlps("a", "b"))
    status, out, _ = export(capsys, *arguments, "--verbose")
    assert status == 1
    assert message in " ".join(out.split()), out
    assert "0 of 1 exported, 1 failed; 0 files" in out


def test_checkpoints_of_one_name_are_told_apart(folds: Path, capsys: pytest.CaptureFixture[str]):
    for run in ("a", "b"):
        (folds / "runs" / run).mkdir(parents=True)
        (folds / "runs" / run / "best.pt").write_bytes((folds / "folds/fold1.pt").read_bytes())
    arguments = ["--pattern", "runs/**/best.pt", "--factory", "nets.py:mlp", "--output", "out"]
    assert export(capsys, *arguments, *FAST, "--no-validate")[0] == 0
    assert sorted(path.name for path in (folds / "out").iterdir()) == [
        "a-best.onnx",
        "b-best.onnx",
    ]


def test_an_artefact_is_placed_whole_with_the_umasks_mode(tmp_path: Path):
    weight = np.zeros([8, 4], np.float32)
    graph = "net (float[1,8] x) => (float[1,4] y) { y = MatMul(x, w) }"
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {graph}')
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    (tmp_path / "build").mkdir()
    source = tmp_path / "build" / "model.onnx"
    data = {"save_as_external_data": True, "location": "model.onnx.data", "size_threshold": 0}
    onnx.save(model, source, **data)
    source.chmod(0o600)
    before = os.umask(0o027)
    try:
        built = Artefact.of(source, seconds=0.0, source="built", notes=Notes())
        placed = place(built, tmp_path / "out" / "net.onnx")
    finally:
        os.umask(before)
    assert [file.name for file in placed.files] == ["net.onnx", "net.onnx.data"]
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["net.onnx", "net.onnx.data"]
    assert stat.S_IMODE((tmp_path / "out" / "net.onnx").stat().st_mode) == 0o640
    onnx.checker.check_model(tmp_path / "out" / "net.onnx")
    (tmp_path / "build" / "model.onnx.data").unlink()
    before_it = (tmp_path / "out" / "net.onnx").read_bytes()
    with pytest.raises(FileNotFoundError):
        place(built, tmp_path / "out" / "net.onnx")
    assert (tmp_path / "out" / "net.onnx").read_bytes() == before_it
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names


def test_python_has_it_too(folds: Path):
    found = pytest_onnxcheck.export_model(
        "folds/fold1.pt", exporter="torchscript", opset=17, precisions=["fp32", "int8-dynamic"]
    )
    assert found.ok
    assert found.file("int8-dynamic").path == Path("folds/fold1-int8-dynamic.onnx")
    assert found.file("fp32").checked.closeness.quality == "excellent"
    (margin,) = found.file("fp32").checked.margins
    assert (margin.limit.key, margin.limit.passes) == ("tolerance.safety", 8.0)
    assert margin.value < 8.0
    assert "tolerance.rel_rms" in {
        margin.limit.key for margin in found.file("int8-dynamic").checked.margins
    }
    assert found.to_json()["files"][0]["path"] == "folds/fold1.onnx"
    with pytest.raises(KeyError, match="fp16"):
        found.file("fp16")


SIZES = """
import torch
from torch import nn


class Grown(nn.Module):
    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 3)

    def forward(self, x, cache, scale=1.0):
        whole = torch.cat([cache, x], dim=1)
        return {"y": self.last(whole) * scale, "found": whole[whole > 0], "rest": whole}
"""

GROWN = """schema = 1
[models.grown]
factory = "sizes.py:Grown"
arguments = { scale = 2.0 }
exporters = ["torchscript"]
opsets = [17]
dims = { batch = [1, 2], past = [0, 3], new = [2, 4] }
inputs.x.shape = ["batch", "new", 4]
inputs.cache.shape = ["batch", "past", 4]
outputs.y = { path = "y", shape = ["batch", "past + new", 3] }
outputs.found = { path = "found", shape = ["any"] }
"""


def test_a_static_export_knows_expressions_sizes_of_0_and_what_nobody_chooses(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    (folder / "sizes.py").write_text(SIZES)
    (folder / "models.toml").write_text(GROWN)
    assert main(["export", "--checkpoint", "no.pt", "--manifest", "models.toml"]) == 1
    capsys.readouterr()
    exported = pytest_onnxcheck.export_model(
        manifest="models.toml", model="grown", output="grown.onnx", dynamic=False
    )
    assert exported.ok, exported.files[0].error
    graph = onnx.load("grown.onnx").graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in [*graph.input, *graph.output]
    }
    assert shapes == {"x": [1, 2, 4], "cache": [1, 3, 4], "y": [1, 5, 3], "found": [0]}
