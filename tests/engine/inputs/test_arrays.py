"""Arrays that are given: what cannot be read is named, and files are cut into runs."""

import numpy as np
import pytest
import torch

from pytest_onnxcheck.engine.inputs.arrays import Runs, arrays_sha256, copied, load_arrays
from pytest_onnxcheck.errors import InputError


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04 half a zip"])
def test_a_corrupt_file_is_named(tmp_path, content):
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"data\.npz: cannot be read"):
        load_arrays(path, ["x"])


def test_pickled_objects_are_not_loaded(tmp_path):
    np.save(tmp_path / "data.npy", np.array([{}], dtype=object))
    np.savez(tmp_path / "data.npz", x=np.array([{}], dtype=object))
    for name in ("data.npy", "data.npz"):
        with pytest.raises(InputError, match="cannot be read"):
            load_arrays(tmp_path / name, ["x"])


def test_a_npy_cannot_serve_two_inputs(tmp_path):
    np.save(tmp_path / "data.npy", np.zeros((4, 3), "float32"))
    with pytest.raises(InputError, match="one array, but 2 are needed: a, b"):
        load_arrays(tmp_path / "data.npy", ["a", "b"])


@pytest.mark.parametrize(
    ("rows", "runs"), [(None, [[0, 1], [2, 3], [4, 5]]), (2, [[[0, 1], [2, 3]], [[4, 5]]])]
)
def test_a_run_takes_an_entry_or_rows_and_the_last_may_have_fewer(rows, runs):
    found = Runs(np.arange(6).reshape(3, 2), rows)
    assert [found[run].tolist() for run in range(len(found))] == runs


def test_the_hash_follows_names_dtypes_shapes_and_values():
    x = np.zeros((2, 3), "float32")
    others = ({"y": x}, {"x": x.astype("int32")}, {"x": x.reshape(3, 2)}, {"x": x + 1})
    hashes = {arrays_sha256([arrays]) for arrays in ({"x": x}, {"x": x.copy()}, *others)}
    assert len(hashes) == 1 + len(others)


def test_arrays_and_tensors_are_copied():
    for value in (np.zeros(2, "float32"), torch.zeros(2)):
        found = copied(value)
        value[0] = 1
        assert (found.dtype, found.tolist()) == (np.float32, [0, 0])
