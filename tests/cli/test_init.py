"""`onnxcheck init` writes a manifest that passes, and says what it guessed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from project import Project
from safetensors.torch import save_file

from pytest_onnxcheck.cli import main
from pytest_onnxcheck.manifest import load_manifest

FAST = ["--exporter", "torchscript", "--opset", "17", "--no-validate"]
ROOT = Path(__file__).parent.parent.parent

NETS = '''
import torch
from torch import nn


class Text(nn.Module):
    def __init__(self, words=50, width=8):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.last = nn.Linear(width, 3)

    def forward(self, input_ids, attention_mask):
        mask = attention_mask.unsqueeze(-1).float()
        return {"logits": self.last((self.words(input_ids) * mask).sum(1))}


class Configured(nn.Module):
    def __init__(self, width, depth):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).relu()
        return x


class Places(nn.Module):
    """Runs at 16 steps alone."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 8)
        self.places = nn.Parameter(torch.zeros(16, 8))

    def forward(self, words):
        return self.words(words) + self.places


class Folded(nn.Module):
    """Its outputs do not follow the batch along one axis."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(6, 2)

    def forward(self, x):
        return self.last(x).reshape(-1)
'''


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("nets", "digits"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def init(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = main(["init", *arguments])
    told = capsys.readouterr()
    return status, told.out, told.err


def saved(name: str, path: str, **wrapped: object) -> None:
    """Saves the weights of a model of `NETS`, alone or within a checkpoint."""
    held: dict = {}
    exec(NETS, held)
    made = held[name](**wrapped.pop("made", {}))
    state = made.state_dict()
    torch.save({"state": state, **wrapped} if wrapped else state, path)


def model_of(folder: Path):
    manifest = load_manifest(folder / "models.toml")
    manifest.check()
    (model,) = manifest.models.values()
    return model


def test_a_checkpoint_and_its_module_pass_without_a_hand_edit(
    empty: Path, capsys: pytest.CaptureFixture[str]
):
    shutil.copy(ROOT / "conformance" / "zoo" / "digits.py", empty)
    shutil.copy(ROOT / "conformance" / "checkpoints" / "tiny_net.safetensors", empty)
    status, out, _ = init(capsys)
    assert status == 0
    guessed = "digits:tiny_net builds a model that takes all the weights of tiny_net.safetensors"
    written = "models.toml: written; now: pytest --onnxcheck"
    assert out.splitlines() == [f"guessed: {guessed}", written]
    text = (empty / "models.toml").read_text()
    assert "# guessed: layers.1 is Linear: in_features 64\n[models.tiny_net.inputs.image]" in text
    project = Project(empty)
    assert project.run("-m", "not latency").ret == 0
    assert set(project.outcomes().values()) == {"passed"}


def test_words_and_masks_are_told_by_embeddings_and_names(
    empty: Path, capsys: pytest.CaptureFixture[str]
):
    (empty / "nets.py").write_text(NETS)
    saved("Text", "text.pt")
    assert init(capsys, "text.pt", "--no-try")[0] == 0
    model = model_of(empty)
    assert model.factory == "nets:Text"
    assert model.inputs["input_ids"].range == (0, 49)
    assert model.inputs["input_ids"].shape == ("batch", "time")
    assert model.inputs["attention_mask"].fill == "mask"
    assert model.dims == {"batch": (1, 2, 3), "time": (16, 5, 11)}
    assert model.outputs["logits"].shape == ("batch", 3)


def test_steps_that_pytorch_does_not_run_at_are_fixed(
    empty: Path, capsys: pytest.CaptureFixture[str]
):
    (empty / "nets.py").write_text(NETS)
    assert init(capsys, "nets.py:Places", "--no-try")[0] == 0
    model = model_of(empty)
    assert model.dims == {"batch": (1, 2, 3)}
    assert model.inputs["words"].shape == ("batch", 16)
    assert model.outputs["output"].shape == ("batch", 16, 8)


def test_arguments_are_taken_from_the_config_inside(
    empty: Path, capsys: pytest.CaptureFixture[str]
):
    (empty / "nets.py").write_text(NETS)
    sizes = {"width": 6, "depth": 2}
    saved("Configured", "net.pt", made=sizes, hparams=sizes, epoch=3)
    assert init(capsys, "--no-try")[0] == 0
    model = model_of(empty)
    assert (model.factory, model.state_dict) == ("nets:Configured", "state")
    assert model.kwargs == sizes
    assert model.inputs["x"].shape == ("batch", 6)


def test_a_batch_that_outputs_do_not_follow_is_fixed(
    empty: Path, capsys: pytest.CaptureFixture[str]
):
    (empty / "nets.py").write_text(NETS)
    status, _, _ = init(capsys, "nets.py:Folded", "--no-try")
    assert status == 0
    text = (empty / "models.toml").read_text()
    assert "# the batch is fixed at 1: outputs do not follow it along one axis" in text
    assert model_of(empty).dims == {}


def test_whole_models_need_no_factory(empty: Path, capsys: pytest.CaptureFixture[str]):
    net = torch.nn.Sequential(torch.nn.Linear(6, 2), torch.nn.Tanh()).eval()
    example = torch.zeros(2, 6)
    torch.jit.trace(net, example).save("traced.pt")
    assert init(capsys, "traced.pt", "--no-try")[0] == 0
    assert model_of(empty).inputs["input"].shape == ("batch", 6)
    shapes = {"input": {0: torch.export.Dim("batch")}}
    torch.export.save(torch.export.export(net, (example,), dynamic_shapes=shapes), "net.pt2")
    assert init(capsys, "net.pt2", "--force", "--no-try")[0] == 0
    assert model_of(empty).dims == {"batch": (1, 2, 3)}


def test_a_given_onnx_with_external_data_passes(empty: Path, capsys: pytest.CaptureFixture[str]):
    (empty / "nets.py").write_text(NETS)
    saved("Text", "text.pt")
    assert main(["export", "--checkpoint", "text.pt", "--output", "shipped.onnx", *FAST]) == 0
    data = {"save_as_external_data": True, "location": "shipped.data", "size_threshold": 0}
    onnx.save(onnx.load("shipped.onnx"), "shipped.onnx", **data)
    status, out, _ = init(capsys, "shipped.onnx")
    assert status == 0, out
    text = (empty / "models.toml").read_text()
    assert 'onnx = "shipped.onnx"' in text
    assert "# inputs as shipped.onnx has them" in text
    project = Project(empty)
    (empty / "nets.py").write_text(NETS)
    assert project.run("-m", "not latency").ret == 0
    assert set(project.outcomes().values()) == {"passed"}


def test_the_precision_of_a_given_onnx_is_told(empty: Path):
    from pytest_onnxcheck.engine.guess.files import precision_of

    def saved_graph(text: str, **weights: np.ndarray) -> Path:
        model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> net {text}')
        for name, value in weights.items():
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        onnx.save(model, "net.onnx")
        return Path("net.onnx")

    product = "(float16[1,2] x) => (float16[1,2] y) { y = MatMul(x, w) }"
    assert precision_of(saved_graph(product, w=np.zeros([2, 2], np.float16))) == "fp16"
    quantized = "(float[1,2] x) => (uint8[1,2] y) { y, s, z = DynamicQuantizeLinear(x) }"
    assert precision_of(saved_graph(quantized)) == "int8-dynamic"
    scaled = "(float[1,2] x) => (uint8[1,2] y) { y = QuantizeLinear(x, s) }"
    assert precision_of(saved_graph(scaled, s=np.float32([1.0])[0].reshape([]))) == "int8-static"


def test_what_does_not_pass_is_written_and_said(empty: Path, capsys: pytest.CaptureFixture[str]):
    (empty / "nets.py").write_text(
        "import torch\nfrom torch import nn\n\nclass Noise(nn.Module):\n"
        "    def __init__(self):\n        super().__init__()\n        self.w = nn.Linear(4, 2)\n"
        "    def forward(self, x):\n        return self.w(x) + torch.randn(2)\n"
    )
    status, _, err = init(capsys, "nets.py:Noise")
    assert status == 1
    assert "models.toml: written, and does not pass yet: " in err
    assert (empty / "models.toml").read_text().startswith("# It does not pass yet: ")
    status, out, _ = init(capsys, "nets.py:Noise", "--force", "--no-try", "--json")
    assert status == 0
    assert json.loads(out)["model"] == "Noise"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "several checkpoints (a.pt, b.pt): name one: onnxcheck init PATH"),
        (["a.pt"], "nothing here builds the model of these weights: "),
        (["no.pt"], "checkpoint not found: no.pt"),
        (["nets.py:Texd"], "nets.py has no 'Texd'"),
        (["nets.py:Configured"], "nets.py:Configured: needs width, depth, and no config"),
        (["nets.py:Text", "--input", "input_ids=batch,3,3,3"], "PyTorch ran on none of"),
        (["sub"], "sub: no checkpoint (.pt, .pth"),
        (["given.onnx"], "several checkpoints (a.pt, b.pt): name one: --checkpoint PATH"),
        (["given.onnx", "--factory", "nets.py:Text"], "given.onnx: not an ONNX file"),
    ],
)
def test_what_cannot_be_told_is_asked_for_in_a_sentence(
    empty: Path, capsys: pytest.CaptureFixture[str], arguments, message: str
):
    (empty / "nets.py").write_text(NETS)
    (empty / "sub").mkdir()
    (empty / "given.onnx").write_text("no model")
    for name in ("a.pt", "b.pt"):
        torch.save({"weights": torch.zeros(3)}, name)
    status, _, err = init(capsys, *arguments)
    assert status == 1
    assert message in err
    assert not (empty / "models.toml").exists()


def test_a_manifest_that_is_there_is_left_alone(empty: Path, capsys: pytest.CaptureFixture[str]):
    (empty / "models.toml").write_text("mine")
    status, _, err = init(capsys, "nets.py:Text")
    assert status == 1
    assert "models.toml: is there already: --force overwrites it" in err
    assert (empty / "models.toml").read_text() == "mine"


def test_scripts_are_not_imported(empty: Path, capsys: pytest.CaptureFixture[str]):
    (empty / "train.py").write_text(
        "from torch import nn\nraise SystemExit\nclass Net(nn.Module): ..."
    )
    (empty / "nets.py").write_text(NETS)
    saved("Text", "text.pt")
    assert init(capsys, "--no-try")[0] == 0


def test_a_hugging_face_folder_passes(empty: Path, capsys: pytest.CaptureFixture[str]):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = transformers.BertConfig(vocab_size=50, num_attention_heads=2, **sizes)
    transformers.BertForSequenceClassification(config).save_pretrained(empty / "bert")
    status, _, err = init(capsys, "bert")
    assert status == 0, err
    model = model_of(empty)
    assert (model.factory, model.pretrained) == (None, empty / "bert")
    assert model.inputs["input_ids"].shape == ("batch", "time")
    assert model.inputs["input_ids"].range == (0, 49)
    assert model.outputs["logits"].shape == ("batch", 2)
    project = Project(empty)
    assert project.run("-m", "not latency").ret == 0


def test_outputs_and_arguments_of_hugging_face(empty: Path, capsys: pytest.CaptureFixture[str]):
    transformers = pytest.importorskip("transformers")
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=50, **sizes)
    transformers.T5ForConditionalGeneration(config).save_pretrained(empty / "t5")
    assert init(capsys, "t5", "--no-try")[0] == 0
    model = model_of(empty)
    assert model.arguments == {"use_cache": False}
    assert list(model.inputs) == ["input_ids", "attention_mask", "decoder_input_ids"]
    assert model.inputs["attention_mask"].padding == "right"
    assert {name: output.path for name, output in model.outputs.items()} == {"logits": "logits"}
    fast = ["--exporter", "torchscript", "--opset", "17", "--no-validate"]
    (empty / "models.toml").unlink()
    assert main(["export", "--checkpoint", "t5", "--output", "t5.onnx", *fast]) == 0
    (output,) = onnx.load("t5.onnx").graph.output
    assert output.name == "logits"
    status, _, err = init(capsys, "t5.onnx", "--checkpoint", "t5", "--no-try")
    assert status == 0, err
    model = model_of(empty)
    assert (model.pretrained, model.variants[0].file) == (empty / "t5", empty / "t5.onnx")
    assert model.outputs["logits"].path == "logits"


def test_a_folder_of_hugging_face_without_transformers_is_told(
    empty: Path, capsys: pytest.CaptureFixture[str]
):
    (empty / "bert").mkdir()
    (empty / "bert" / "config.json").write_text('{"architectures": ["NoSuchModel"]}')
    save_file({"w": torch.zeros(2)}, empty / "bert" / "model.safetensors")
    status, _, err = init(capsys, "bert")
    assert status == 1
    if importlib.util.find_spec("transformers") is None:
        assert "NoSuchModel is a class of transformers, which cannot be imported" in err
    else:
        assert "has no NoSuchModel" in err


def test_a_pickled_module_is_only_read_when_trusted(
    empty: Path, capsys: pytest.CaptureFixture[str]
):
    torch.save(torch.nn.Sequential(torch.nn.Linear(6, 2)), "whole.pt")
    status, _, err = init(capsys, "whole.pt", "--no-try")
    assert status == 1
    assert "set trust = true in its [models.NAME] table (--trust where there is no manifest)" in err
    assert init(capsys, "whole.pt", "--no-try", "--trust")[0] == 0
    assert model_of(empty).trust
    fast = ["--exporter", "torchscript", "--opset", "17", "--no-validate", "--trust"]
    (empty / "models.toml").unlink()
    assert main(["export", "--checkpoint", "whole.pt", *fast]) == 0
    assert (empty / "whole.onnx").exists()
