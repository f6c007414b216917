"""`onnxcheck validate`: every file, every import, every target; all problems at once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from project import mlps
from small_models import save

import pytest_onnxcheck
from pytest_onnxcheck.cli import main

FAULTY = """schema = 1
[models.weights]
factory = "nets.py:mlp"
checkpoint = "no.pt"
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
[models.code]
factory = "nets.py:mpl"
inputs.x = { shape = [1, 8], fill = "file", file = "no.npz" }
outputs.y.shape = [1, 4]
[models.code.calibration]
source = "nets.py:draws"
[models.code.accuracy]
source = "nets.py:samples"
[models.given]
factory = "nets.py:mlp"
onnx = "no.onnx"
baseline = "text.onnx"
budget.fp32.max_regression = "10%"
example = "rest.npz"
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
[models.given.cases.quiet]
file = "rest.npz"
[models.heads]
factory = "nets.py:two_heads"
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
[models.target]
factory = "nets.py:mlp"
targets = ["cuda", "cpu"]
required_targets = ["cuda"]
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
"""


def problems(folder: Path, capsys: pytest.CaptureFixture[str], text: str, *options: str):
    (folder / "models.toml").write_text(text)
    assert main(["validate", *options]) == 1
    return capsys.readouterr().err.splitlines()


def test_every_problem_is_told_with_its_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "text.onnx").write_text("no model")
    np.savez(folder / "rest.npz", z=np.zeros([1, 8], np.float32))
    (folder / "nos.pt").write_bytes(b"")
    found = problems(folder, capsys, FAULTY)
    expected = [
        ("models.toml:4: [models.weights] checkpoint: checkpoint not found: ", "'nos.pt'?)"),
        ("models.toml:8: [models.code] factory: 'nets.py:mpl': nets.py has no 'mpl'", "'mlp'"),
        ("models.toml:9: [models.code] inputs.x.file: ", "no.npz: not found"),
        ("models.toml:12: [models.code] calibration.source: 'nets.py:draws'", "'draws'"),
        ("models.toml:14: [models.code] accuracy.source: 'nets.py:samples'", "'samples'"),
        ("models.toml:17: [models.given] onnx: not found: ", "no.onnx"),
        ("models.toml:18: [models.given] baseline: ", "text.onnx: not an ONNX file"),
        ("models.toml:20: [models.given] example: ", "rest.npz: no array 'x'; it holds 'z'"),
        ("models.toml:24: [models.given] cases.quiet.file: ", "no array 'x'; it holds 'z'"),
        ("models.toml:27: [models.heads] inputs: heads: PyTorch returns 2 tensors", ""),
        ("models.toml:32: [models.target] required_targets: cuda: ", ""),
    ]
    assert len(found) == len(expected), "\n".join(found)
    for line, (start, held) in zip(found, expected, strict=True):
        assert line.startswith(start), line
        assert held in line, line


def test_without_imports_no_code_runs(folder: Path, capsys: pytest.CaptureFixture[str]):
    (folder / "nets.py").write_text("raise SystemExit('imported')")
    (folder / "models.toml").write_text("schema = 1\n" + mlps("a"))
    assert main(["validate", "--no-import"]) == 0
    assert capsys.readouterr().out == "a::dynamo-op20-fp32\n"
    found = problems(folder, capsys, FAULTY, "--no-import")
    assert not [line for line in found if "nets.py" in line]
    assert [line for line in found if "checkpoint not found" in line]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.pt", b"", "is empty"),
        ("w.pt", b"PK\x03\x04cut", "is cut short (an archive without its end, 7 bytes)"),
        ("w.pt", b"<html>", "is a web page"),
        ("w.pt", b"weights", "is a text, which begins with 'weights'"),
        ("w.safetensors", b"\x08", "is neither an archive, nor a pickle, nor safetensors"),
        ("w.safetensors", (9).to_bytes(8, "little") + b"{broken..", "header is damaged"),
    ],
)
def test_the_header_of_a_checkpoint_is_read(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, message: str
):
    (folder / name).write_bytes(content)
    text = 'schema = 1\n[models.a]\nfactory = "nets.py:mlp"\n'
    text += f'checkpoint = "{name}"\ninputs.x.shape = [1, 8]\noutputs.y.shape = [1, 4]\n'
    (line,) = problems(folder, capsys, text, "--no-import")
    assert message in line


def test_a_safetensors_file_that_was_cut_is_seen(folder: Path, capsys: pytest.CaptureFixture[str]):
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(100)}, folder / "w.safetensors")
    whole = (folder / "w.safetensors").read_bytes()
    (folder / "w.safetensors").write_bytes(whole[:-10])
    text = 'schema = 1\n[models.a]\nfactory = "nets.py:mlp"\n'
    text += 'checkpoint = "w.safetensors"\ninputs.x.shape = [1, 8]\noutputs.y.shape = [1, 4]\n'
    (line,) = problems(folder, capsys, text, "--no-import")
    assert f"is cut short (it should have {len(whole)} bytes and has {len(whole) - 10})" in line


def test_weights_that_do_not_fit_and_missing_external_data(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    import onnx

    torch.save({"other": torch.zeros(2)}, folder / "w.pt")
    weight = np.zeros([8, 4], np.float32)
    path = save(
        folder / "m.onnx", "(float[1,8] x) => (float[1,4] y) { y = MatMul(x, w) }", w=weight
    )
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="m.data", size_threshold=0
    )
    (folder / "m.data").unlink()
    text = 'schema = 1\n[models.a]\nfactory = "nets.py:mlp"\ncheckpoint = "w.pt"\n'
    text += 'onnx = "m.onnx"\ninputs.x.shape = [1, 8]\noutputs.y.shape = [1, 4]\n'
    found = problems(folder, capsys, text)
    assert len(found) == 2
    assert "models.toml:4: [models.a] " in found[0]
    assert "models.toml:5: [models.a] onnx: " in found[1]
    assert "m.onnx: external data: " in found[1]


def test_what_would_be_skipped_is_told(folder: Path, capsys: pytest.CaptureFixture[str]):
    text = "schema = 1\n" + mlps("a") + 'targets = ["cpu", "cuda"]\n'
    text += '[[models.a.skip]]\nchecks = ["latency"]\nreason = "too slow"\n'
    (folder / "models.toml").write_text(text)
    assert main(["validate"]) == 0
    told = capsys.readouterr()
    assert told.out == "a::dynamo-op20-fp32\n"
    assert "would skip latency (a): too slow\n" in told.err
    assert "would skip every check on cuda (a): cuda: CUDAExecutionProvider is not in" in told.err
    assert main(["validate", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    assert [entry["what"] for entry in found["skipped"]] == ["latency", "every check on cuda"]


def test_python_has_it_too(folder: Path):
    (folder / "models.toml").write_text(FAULTY)
    found = pytest_onnxcheck.validate(imports=False)
    assert not found.ok
    assert found.problems[0].line == 4
    assert found.to_json()["problems"][0]["model"] == "weights"
    with pytest.raises(pytest_onnxcheck.ManifestError, match=r"models.toml:17: .*no.onnx"):
        found.check()


LIBRARIES = """schema = 1
[models.a]
factory = "nets.py:mlp"
operator_libraries = ["ops.so", "no_such_package"]
translations."gate::op" = { torchscript = "nets.py:symbolic" }
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
"""


def test_libraries_and_translations_are_looked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
):
    found = problems(folder, capsys, LIBRARIES)
    assert len(found) == 3, found
    assert found[0].startswith("models.toml:4: [models.a] operator_libraries: ")
    assert "ops.so" in found[0] + found[1]
    assert "no_such_package" in found[0] + found[1]
    assert found[2].startswith("models.toml:5: [models.a] translations.gate::op: ")
    assert "nets.py has no 'symbolic'" in found[2]
    (line,) = problems(folder, capsys, LIBRARIES, "--no-import")
    assert "ops.so" in line


@pytest.mark.parametrize("key", ["checkpoint", "pretrained"])
def test_folders_of_shards_are_opened(folder: Path, capsys: pytest.CaptureFixture[str], key: str):
    from safetensors.torch import save_file

    saved = folder / "saved"
    saved.mkdir()
    (saved / "config.json").write_text('{"architectures": ["BertModel"]}')
    shards = {"a": "one.safetensors", "b": "two.safetensors"}
    (saved / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    save_file({"a": torch.zeros(100)}, saved / "one.safetensors")
    factory = 'factory = "nets.py:mlp"\n' if key == "checkpoint" else ""
    text = f'schema = 1\n[models.a]\n{factory}{key} = "saved"\n'
    text += "inputs.x.shape = [1, 8]\noutputs.y.shape = [1, 4]\n"
    line = 4 if key == "checkpoint" else 3
    (found,) = problems(folder, capsys, text, "--no-import")
    assert found.startswith(f"models.toml:{line}: [models.a] {key}: ")
    assert "1 of 2 shards missing: two.safetensors" in found
    whole = (saved / "one.safetensors").read_bytes()
    (saved / "two.safetensors").write_bytes(whole[:-8])
    (found,) = problems(folder, capsys, text, "--no-import")
    assert "two.safetensors: cannot be read: it is cut short (it should have " in found
    (saved / "two.safetensors").write_bytes(whole)
    assert main(["validate", "--no-import"]) == 0
