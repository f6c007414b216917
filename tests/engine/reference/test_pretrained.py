"""What `pretrained` says of folders and classes before transformers is asked.

The tests that need transformers are in `tests/huggingface`.
"""

import builtins
import json
import sys

import pytest
import torch
from safetensors.torch import save_file

from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.manifest import load_manifest

MANIFEST = """
schema = 1
[models.net]
pretrained = "{folder}"
{more}
[models.net.inputs.x]
shape = [2, 4]
[models.net.outputs.y]
shape = [2, 3]
"""

OWN = """
import json

import torch
from safetensors.torch import load_file


class Own(torch.nn.Linear):
    @classmethod
    def from_pretrained(cls, folder, *, local_files_only=False, bias=True):
        assert local_files_only
        module = cls(4, 3, bias=bias)
        module.load_state_dict(load_file(f"{folder}/model.safetensors"))
        return module


class Strict(Own):
    @classmethod
    def from_pretrained(cls, folder):
        return super().from_pretrained(folder, local_files_only=True)


class Text:
    @classmethod
    def from_pretrained(cls, folder):
        return "text"


def make():
    return torch.nn.Linear(4, 3)


def shapes(config):
    return {"x": [2, config["width"]]}
"""


@pytest.fixture
def saved(tmp_path):
    folder = tmp_path / "saved"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(torch.nn.Linear(4, 3).state_dict(), folder / "model.safetensors")
    write(folder, architectures=["OwnModel"], width=4)
    return folder


def write(folder, **config):
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own.py").write_text(OWN, encoding="utf-8")

    def run(more="", folder="saved"):
        text = MANIFEST.format(folder=folder, more=more)
        (tmp_path / "models.toml").write_text(text, encoding="utf-8")
        return load_reference(load_manifest(tmp_path / "models.toml").models["net"])

    return run


@pytest.fixture
def refused(load):
    def run(more="", folder="saved"):
        with pytest.raises(CheckpointError) as caught:
            load(more, folder)
        return str(caught.value)

    return run


# folders


def test_a_name_of_the_hub_is_not_downloaded(refused, tmp_path):
    assert refused(folder="bert-base-uncased") == (
        f"pretrained folder not found: {tmp_path / 'bert-base-uncased'}. If 'bert-base-uncased' is "
        "a name on the Hugging Face Hub: nothing is downloaded while checking. Get it once, "
        "`hf download bert-base-uncased --local-dir bert-base-uncased`"
    )
    assert "`hf download google/vit --local-dir google/vit`" in refused(folder="google/vit")


def test_a_missing_folder_names_the_closest_and_a_path_is_no_name(refused, saved):
    assert refused(folder="savde").endswith("savde (did you mean 'saved'?)")
    assert refused(folder="runs/1/best") == (
        f"pretrained folder not found: {saved.parent / 'runs/1/best'}"
    )


def test_a_file_is_no_folder(refused, saved):
    assert refused(folder="saved/model.safetensors") == (
        f"{saved / 'model.safetensors'}: is a file, and pretrained names the folder it is in: "
        'write pretrained = "saved", or, for weights alone, checkpoint = '
        '"saved/model.safetensors" with a factory'
    )


def test_a_folder_without_config(refused, saved):
    (saved / "config.json").unlink()
    assert refused().startswith(f"{saved}: has weights but no config.json, which says what model")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no JSON", "cannot be read: Expecting value"),
        ("version https://git-lfs.github.com/spec/v1", "cannot be read: it is a Git LFS pointer"),
        ("[]", "is a list, not a table"),
    ],
)
def test_a_config_that_is_none(refused, saved, text, said):
    (saved / "config.json").write_text(text, encoding="utf-8")
    assert refused().startswith(f"{saved / 'config.json'}: {said}")


def test_a_folder_without_weights(refused, saved):
    (saved / "model.safetensors").unlink()
    assert refused().startswith(f"{saved}: is a folder without weights of PyTorch")
    (saved / "adapter_config.json").touch()
    assert refused().startswith(f"{saved}: is an adapter (PEFT) without its base model")


def test_a_folder_of_runs_names_those_inside(refused, saved):
    saved.rename(saved.parent / "kept")
    saved.mkdir()
    (saved.parent / "kept").rename(saved / "checkpoint-5")
    assert refused() == (f'{saved}: has no weights itself; write pretrained = "saved/checkpoint-5"')


def test_weights_that_are_a_pointer(refused, saved):
    weights = saved / "model.safetensors"
    weights.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    assert refused() == (
        f"{weights}: cannot be read: it is a Git LFS pointer, not the file itself: run "
        "`git lfs pull`"
    )


# classes


def test_code_in_a_folder_is_never_run(refused, saved):
    assert refused("kwargs.trust_remote_code = true").startswith(
        "kwargs.trust_remote_code is refused: code in a folder of weights is never run"
    )


def test_a_config_that_names_no_class(refused, saved):
    write(saved, model_type="own")
    assert refused() == (
        f"{saved / 'config.json'}: names no class (architectures): write the one that loads it, "
        'such as factory = "transformers:AutoModel"'
    )


def test_without_transformers_it_says_what_to_install(refused, saved, monkeypatch):
    imported = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "transformers":
            raise ModuleNotFoundError(f"No module named {name!r}")
        return imported(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert refused() == (
        f"{saved}: OwnModel is a class of transformers, which cannot be imported (No module named "
        "'transformers'): pip install 'pytest-onnxcheck[transformers]'"
    )


def test_a_function_is_no_class_of_a_folder(refused, saved):
    assert refused('factory = "own.py:make"') == (
        "own.py:make has no from_pretrained, which pretrained calls: name the model's class, or, "
        'for a factory of your own, write checkpoint = "saved" in place of pretrained'
    )


def test_a_class_of_ones_own_loads_its_folder(load, saved):
    reference = load('factory = "own.py:Own"\nshapes = "own.py:shapes"')
    torch.manual_seed(0)
    assert torch.equal(reference.module.weight, torch.nn.Linear(4, 3).weight)
    assert reference.config["width"] == 4
    (note, train) = reference.notes
    assert note == (
        "Own.from_pretrained is not that of transformers, and does not say whether it found all "
        f"weights in {saved}"
    )
    assert train.startswith("own.py:Own gives the model in train mode")
    assert load('factory = "own.py:Strict"').module is not None


def test_the_fingerprint_follows_the_folder(load, saved):
    def fingerprint():
        return load('factory = "own.py:Own"').fingerprint

    first = fingerprint()
    assert fingerprint() == first
    write(saved, architectures=["OwnModel"], width=5)
    assert fingerprint() != first


def test_what_from_pretrained_raises_is_told(refused, saved):
    assert refused('factory = "own.py:Own"\nkwargs.bias = false').startswith(
        f"Own.from_pretrained({saved}, bias=False) failed: RuntimeError: Error(s) in loading"
    )
    assert refused('factory = "own.py:Text"') == (
        "Text.from_pretrained returned a str, not a torch.nn.Module"
    )
