"""Files that are no checkpoint of PyTorch are told as what they are, by their content."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import struct
import zipfile

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from safetensors.torch import save
from sklearn.linear_model import LinearRegression

from pytest_onnxcheck.engine.reference.checkpoint import load_checkpoint
from pytest_onnxcheck.engine.reference.formats import dtypes_of, unreadable
from pytest_onnxcheck.errors import CheckpointError

STATE = {"weight": torch.arange(6.0).reshape(2, 3)}


def written(write):
    """What a function writes into a file."""
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def archive(*names):
    def write(file):
        with zipfile.ZipFile(file, "w") as opened:
            for name in names:
                opened.writestr(name, b"content")

    return written(write)


def an_onnx_model():
    value = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    node = helper.make_node("Identity", ["x"], ["y"])
    made = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = helper.make_graph([node], "net", [value], [made])
    return helper.make_model(graph, producer_name="pytorch").SerializeToString()


#: what msgpack makes of {"params": {...}} begins so
FLAX = b"\x81\xa6params\x82\xa4bias\xc7\x10\x01\x93\x91\x04\xa7float32\xc4\x00"
FILES = {
    "lfs": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "is a Git LFS pointer, not the file itself: run `git lfs pull`",
    ),
    "empty": (b"", "is empty"),
    "page": (b"<!DOCTYPE html><html>404</html>", "is a web page: the download gave a page"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "is an HDF5 file, as Keras and TensorFlow write"),
    "keras": (archive("config.json", "model.weights.h5"), "is a model of Keras"),
    "gguf": (b"GGUF" + bytes(60), "is a GGUF file of llama.cpp"),
    "tflite": (b"\x1c\0\0\0TFL3" + bytes(60), "is a model of TensorFlow Lite"),
    "saved_model": (b"\x08\x01\x12\xf0\x07" + bytes(60), "is a SavedModel of TensorFlow"),
    "tf_index": (
        bytes(70) + struct.pack("<Q", 0xDB4775248B80FB57),
        "is the index of a TensorFlow checkpoint",
    ),
    "tf_list": (b'model_checkpoint_path: "m-1"\n', "is the list of a TensorFlow checkpoint"),
    "flax": (FLAX, "is a msgpack file, as Flax writes weights"),
    "onnx": (an_onnx_model(), "is an ONNX model: `onnx = ` takes artefacts that exist already"),
    "text": (b"hello there\nand more", "is a text, which begins with 'hello there'"),
    "json": (b'{"weights": [1, 2]}', """is a text, which begins with '{"weights": [1, 2]}'"""),
    "npy": (written(lambda file: np.save(file, np.ones(3))), "is an array of numpy"),
    "npz": (written(lambda file: np.savez(file, a=np.ones(3))), "is an .npz of numpy"),
    "numpy": (pickle.dumps({"a": np.ones(3)}), "is a pickle of numpy"),
    "sklearn": (
        pickle.dumps(LinearRegression().fit([[0.0], [1.0]], [0, 1])),
        "is a pickle of scikit-learn",
    ),
    "gzip": (gzip.compress(b"weights"), "is compressed with gzip: unpack it"),
    "bz2": (bz2.compress(b"weights"), "is compressed with bzip2: unpack it"),
    "xz": (lzma.compress(b"weights"), "is compressed with xz: unpack it"),
    "zip": (archive("net.pt", "readme"), "is a zip archive, and none of torch.save: unpack it"),
    "short_zip": (
        written(lambda file: torch.save(STATE, file))[:-300],
        "is cut short (an archive without its end",
    ),
    "short_safetensors": (save(STATE)[:-4], "is cut short (it should have "),
    "short_table": (save(STATE)[:20], "is cut short (it should have "),
}


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_told_by_its_content(tmp_path, kind, suffix):
    content, text = FILES[kind]
    path = tmp_path / f"net{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, tmp_path, trust=False)
    assert str(caught.value).startswith(f"{path}: cannot be read: it {text}")


def test_what_torch_reads_is_none_of_them(tmp_path):
    path = tmp_path / "net"
    for zipped in (True, False):
        torch.save(STATE, path, _use_new_zipfile_serialization=zipped)
        assert unreadable(path) is None
    torch.jit.script(torch.nn.ReLU()).save(path)
    assert unreadable(path) is None
    path.write_bytes(save(STATE))
    assert unreadable(path) is None
    path.write_bytes(pickle.dumps({"anything": 1}))
    assert unreadable(path) is None
    for length in (1, 5_000):  # in the oldest protocol, which is a text
        path.write_bytes(pickle.dumps({"anything": ["text"] * length, "more": list("ab")}, 0))
        assert unreadable(path) is None


def test_data_of_a_tensorflow_checkpoint_and_a_program_are_known_by_name_and_content(tmp_path):
    path = tmp_path / "model.ckpt.data-00000-of-00001"
    path.write_bytes(bytes(range(100)))
    assert unreadable(path).startswith("is the data of a TensorFlow checkpoint")
    program = torch.export.export(torch.nn.ReLU(), (torch.ones(2),))
    torch.export.save(program, tmp_path / "net.pt2")
    (tmp_path / "net.pt2").rename(tmp_path / "net.pt")
    with pytest.raises(CheckpointError, match=r"is a program of torch\.export: give it the suffix"):
        load_checkpoint(tmp_path / "net.pt", tmp_path, trust=False)


def test_dtypes_are_those_of_the_floating_tensors(tmp_path):
    path = tmp_path / "net.safetensors"
    half = {"a": torch.ones(1).half(), "b": torch.ones(1).bfloat16(), "n": torch.ones(1).long()}
    path.write_bytes(save(half, {"format": "pt"}))
    assert dtypes_of(path) == {"float16", "bfloat16"}
    table = json.dumps([]).encode()
    path.write_bytes(struct.pack("<Q", len(table)) + table)
    with pytest.raises(ValueError, match="a list, not a table"):
        dtypes_of(path)
