"""Folders of `save_pretrained` are read whole; others are told as what they are."""

import json

import pytest
import torch
from safetensors.torch import save_file

from pytest_onnxcheck.engine.reference.checkpoint import load_checkpoint
from pytest_onnxcheck.engine.reference.folders import weight_files
from pytest_onnxcheck.errors import CheckpointError

STATE = {"a.weight": torch.arange(4.0), "a.bias": torch.ones(1), "b.weight": torch.zeros(2)}
SHARDS = {"00001-of-00002": ("a.weight",), "00002-of-00002": ("a.bias", "b.weight")}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "saved").mkdir()
    return tmp_path / "saved"


def save(state, path):
    if path.suffix == ".safetensors":
        save_file(state, path, {"format": "pt"})
    else:
        torch.save(state, path)


def sharded(folder, stem="model", suffix=".safetensors"):
    """Writes shards and their index as transformers does."""
    places = {}
    for shard, names in SHARDS.items():
        save({name: STATE[name] for name in names}, folder / f"{stem}-{shard}{suffix}")
        places |= dict.fromkeys(names, f"{stem}-{shard}{suffix}")
    index = {"metadata": {"total_size": 28}, "weight_map": places}
    (folder / f"{stem}{suffix}.index.json").write_text(json.dumps(index), encoding="utf-8")


def load(folder):
    return load_checkpoint(folder, folder.parent, trust=False)


def refused(folder):
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    return str(caught.value)


def is_whole(checkpoint):
    state = checkpoint.state_dict(None)
    return state.keys() == STATE.keys() and all(torch.equal(state[k], STATE[k]) for k in STATE)


@pytest.mark.parametrize(
    ("stem", "suffix"),
    [("model", ".safetensors"), ("pytorch_model", ".bin"), ("diffusion", ".safetensors")],
)
def test_all_shards_are_read(folder, stem, suffix):
    sharded(folder, stem, suffix)
    (folder / "config.json").write_text("{}", encoding="utf-8")
    checkpoint = load(folder)
    assert is_whole(checkpoint)
    assert checkpoint.tied == (suffix == ".safetensors")
    assert [file.name for file in checkpoint.files] == [
        f"{stem}-00001-of-00002{suffix}",
        f"{stem}-00002-of-00002{suffix}",
        "config.json",
    ]


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_of_one_file(folder, name):
    save(STATE, folder / name)
    assert is_whole(load(folder))
    assert [file.name for file in weight_files(folder)] == [name]


def test_safetensors_go_before_bin_and_a_variant_is_asked_for(folder):
    for name in ("pytorch_model.bin", "model.safetensors", "model.fp16.safetensors"):
        save(STATE, folder / name)
    assert [file.name for file in weight_files(folder)] == ["model.safetensors"]
    assert [file.name for file in weight_files(folder, "fp16")] == ["model.fp16.safetensors"]


def test_a_missing_shard_is_named(folder):
    sharded(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert refused(folder) == (
        f"{folder}: 1 of 2 shards missing: model-00002-of-00002.safetensors; "
        "model.safetensors.index.json names them: copy or download the folder again, all of it"
    )


def test_a_shard_that_is_a_pointer_is_named(folder):
    sharded(folder)
    shard = folder / "model-00001-of-00002.safetensors"
    shard.write_text("version https://git-lfs.github.com/spec/v1\nsize 1\n", encoding="utf-8")
    assert refused(folder).startswith(f"{shard}: cannot be read: it is a Git LFS pointer")


@pytest.mark.parametrize("text", ["{}", "[]", "no JSON", '{"weight_map": 1}'])
def test_an_index_that_is_none(folder, text):
    index = folder / "model.safetensors.index.json"
    index.write_text(text, encoding="utf-8")
    assert refused(folder).startswith(f"{index}: is no index of shards: ")
    index.write_text("version https://git-lfs.github.com/spec/v1\n", encoding="utf-8")
    assert "is a Git LFS pointer" in refused(folder)


def test_several_indices(folder):
    sharded(folder, "one")
    sharded(folder, "two")
    assert refused(folder) == (
        f"{folder}: has several sets of weights: one.safetensors.index.json and "
        "two.safetensors.index.json"
    )


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("saved_model.pb", "is a SavedModel of TensorFlow"),
        (".metadata", "is a checkpoint of torch.distributed: make one file of it with `python -m "),
        ("zero_to_fp32.py", "is a checkpoint of DeepSpeed: make one file of it with `python "),
        ("adapter_config.json", "is an adapter (PEFT) without its base model: merge them"),
        ("model_index.json", "is a pipeline of diffusers: name the folder of one of its models"),
        ("data.pkl", "is an archive of torch.save that was unpacked"),
        ("tf_model.h5", "is weights of TensorFlow alone"),
        ("flax_model.msgpack", "is weights of Flax alone"),
    ],
)
def test_folders_of_others_are_told_as_what_they_are(folder, name, text):
    (folder / name).touch()
    (folder / "config.json").touch()
    assert refused(folder).startswith(f"{folder}: {text}")


def test_files_that_could_be_meant_are_named(folder):
    (folder / "weights").mkdir()
    save(STATE, folder / "weights" / "last.ckpt")
    save(STATE, folder / "best.pt")
    (folder / "empty.pt").touch()
    assert refused(folder) == (
        f"{folder}: is a folder that save_pretrained did not write; name a file in it: "
        'checkpoint = "saved/best.pt" or checkpoint = "saved/weights/last.ckpt"'
    )
    for number in range(5):
        save(STATE, folder / f"best{number}.pt")
    assert refused(folder).endswith(" or one of 2 more")


def test_folders_inside_that_could_be_meant_are_named(folder):
    (folder / "checkpoint-500").mkdir()
    sharded(folder / "checkpoint-500")
    (folder / "checkpoint-500" / "config.json").touch()
    assert refused(folder) == (
        f'{folder}: has no weights itself; write checkpoint = "saved/checkpoint-500"'
    )


def test_a_folder_without_weights_says_what_it_holds(folder):
    assert refused(folder) == (
        f"{folder}: is a folder without weights of PyTorch (model.safetensors, pytorch_model.bin "
        "or the shards of one); it holds nothing"
    )
    (folder / "readme.md").touch()
    assert refused(folder).endswith("it holds readme.md")
