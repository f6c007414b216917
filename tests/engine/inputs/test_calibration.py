"""Calibration data: what is taken, what is measured about it, and how faults of it are told."""

import re

import numpy as np
import pytest
import torch

from pytest_onnxcheck.engine.inputs.calibration import load_calibration
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.errors import QuantizeError
from pytest_onnxcheck.manifest import load_manifest

NET = """
import torch


def make():
    return torch.nn.Identity()
"""

DATA = """
import numpy as np
import torch


def rows(first, number=1):
    return {"x": np.full((number, 4), first, "float32") + np.arange(4, dtype="float32")}


def listed():
    return [rows(0.0), rows(1.0), rows(2.0)]


def endless():
    first = 0.0
    while True:
        yield rows(first, 2)
        first += 1.0


def one_buffer():
    buffer = np.zeros((1, 4), "float32")
    for value in (1.0, 2.0):
        buffer[:] = value
        yield {"x": buffer}


def tensors():
    for value in (1.0, 2.0):
        yield {"x": torch.full((2, 4), value, requires_grad=True)}


def random():
    yield {"x": torch.randn(2, 4)}


def shuffled():
    return torch.utils.data.DataLoader([rows(float(row)) for row in range(8)], shuffle=True,
                                       collate_fn=lambda batch: batch[0])


several = listed()
iterator = iter(listed())
five = 5


def none():
    return []


def nothing():
    return None


def single():
    return rows(0.0, 3)


def fails():
    raise FileNotFoundError("no /data/images")


def fails_later():
    yield rows(0.0)
    raise ValueError("a bad image")


def unnamed():
    return [rows(0.0)["x"]]


def other_name():
    return [{"y": rows(0.0)["x"]}]


def doubles():
    return [{"x": rows(0.0)["x"].astype("float64")}]


def too_wide():
    return [rows(0.0), {"x": np.zeros((1, 5), "float32")}]


def ragged():
    return [{"x": [[1.0], [1.0, 2.0]]}]


def not_finite():
    x = rows(0.0, 2)["x"]
    x[1, 3] = np.nan
    return [rows(0.0), {"x": x}]
"""


@pytest.fixture
def load(tmp_path):
    """Loads the calibration of a model with input x of [batch, 4], unless told otherwise."""
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    (tmp_path / "data.py").write_text(DATA, encoding="utf-8")

    def make(calibration=None, inputs='x = { shape = ["batch", 4] }', dims="batch = [2]"):
        path = tmp_path / "models.toml"
        written = "" if calibration is None else f"calibration = {{ {calibration} }}"
        path.write_text(
            f'schema = 1\n[models.net]\nfactory = "net.py:make"\ndims = {{ {dims} }}\n{written}\n'
            f"[models.net.inputs]\n{inputs}\n[models.net.outputs.out]\nshape = [1]\n",
            encoding="utf-8",
        )
        manifest = load_manifest(path)
        manifest.check()
        return load_calibration(load_reference(manifest.models["net"]))

    return make


@pytest.fixture
def saved(tmp_path):
    """Saves arrays as a file; by default 10 examples x, row n holding n."""

    def save(name="data.npz", **arrays):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        arrays = arrays or {"x": numbered(10)}
        if path.suffix == ".npy":
            np.save(path, *arrays.values())
        else:
            np.savez(path, **arrays)

    return save


def numbered(count, start=0):
    return np.arange(start, start + count, dtype="float32")[:, None] + np.zeros(4, "float32")


def firsts(calibration):
    """The first column of x, run by run."""
    return [batch["x"][:, 0].tolist() for batch in calibration.batches]


def problem(load, *args, **kwargs):
    with pytest.raises(QuantizeError) as caught:
        load(*args, **kwargs)
    return str(caught.value)


# files


def test_a_file_gives_one_example_a_run(load, saved):
    saved()
    calibration = load('file = "data.npz"')
    assert firsts(calibration) == [[float(row)] for row in range(10)]
    assert {batch["x"].dtype for batch in calibration.batches} == {np.dtype("float32")}
    measured = calibration.measured
    assert (measured.origin, measured.examples) == ("10 examples of data.npz", 10)
    assert not measured.random
    assert measured.constant == {}


def test_an_array_the_model_has_no_input_for_is_left_out(load, saved):
    saved(x=numbered(3), labels=np.arange(3))
    assert [list(batch) for batch in load('file = "data.npz"').batches] == [["x"]] * 3


def test_count_takes_the_first_and_64_are_taken_without_it(load, saved):
    saved(x=numbered(100))
    assert len(load('file = "data.npz"').batches) == 64
    assert firsts(load('file = "data.npz", count = 2')) == [[0.0], [1.0]]
    assert len(load('file = "data.npz", count = 100').batches) == 100


def test_batch_puts_examples_into_one_run(load, saved):
    saved()
    calibration = load('file = "data.npz", batch = 4')
    assert firsts(calibration) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert calibration.measured.examples == 10


def test_seed_takes_examples_at_random_and_the_same_every_time(load, saved):
    saved(x=numbered(100))
    first = firsts(load('file = "data.npz", count = 8, seed = 1'))
    assert first == firsts(load('file = "data.npz", count = 8, seed = 1'))
    assert first != firsts(load('file = "data.npz", count = 8, seed = 2'))
    assert max(value for (value,) in first) > 8
    assert len({value for (value,) in first}) == 8
    load('file = "data.npz", seed = -1')


def test_a_folder_is_read_in_the_order_of_its_names(load, saved, tmp_path):
    saved("set/b.npz", x=numbered(2, start=2))
    saved("set/a.npz", x=numbered(2))
    (tmp_path / "set" / "README.txt").write_text("not data")
    calibration = load('folder = "set"')
    assert firsts(calibration) == [[0.0], [1.0], [2.0], [3.0]]
    assert calibration.measured.origin == "4 examples of set"
    assert firsts(load('folder = "set", batch = 3')) == [[0, 1, 2], [3]]


def test_a_folder_of_npy_serves_a_single_input(load, saved):
    saved("set/a.npy", x=numbered(2))
    saved("set/b.npy", x=numbered(1, start=5))
    assert firsts(load('folder = "set"')) == [[0.0], [1.0], [5.0]]


def test_files_of_a_folder_may_differ_in_the_sizes_of_symbolic_dims(load, saved):
    inputs, dims = 'x = { shape = ["batch", "time"] }', "batch = [2], time = [3]"
    saved("set/a.npz", x=np.ones((2, 3), "float32"))
    saved("set/b.npz", x=np.ones((1, 5), "float32"))
    shapes = [batch["x"].shape for batch in load('folder = "set"', inputs, dims).batches]
    assert shapes == [(1, 3), (1, 3), (1, 5)]
    assert problem(load, 'folder = "set", batch = 3', inputs, dims) == (
        "net: calibration data: rows of input 'x' are [3] in set/a.npz[1], [5] in set/b.npz[0], "
        "which cannot be put into one run: drop calibration.batch = 3, or give examples of one "
        "shape"
    )


def test_examples_of_an_input_with_a_fixed_first_size_are_whole_inputs(load, saved):
    inputs = 'x = { shape = [1, 4] }\nscale = { shape = [] }\nn = { shape = ["batch"] }'
    arrays = {"x": (3, 1, 4), "scale": (3,), "n": (3,)}
    saved(**{name: np.ones(shape, "float32") for name, shape in arrays.items()})
    calibration = load('file = "data.npz"', inputs)
    assert len(calibration.batches) == 3
    shapes = {name: array.shape for name, array in calibration.batches[0].items()}
    assert shapes == {"x": (1, 4), "scale": (), "n": (1,)}
    assert problem(load, 'file = "data.npz", batch = 2', inputs) == (
        "net: calibration.batch = 2, but input 'x' has shape [1, 4], whose first size is not the "
        "batch: each example is a whole input. Drop batch, or make the first size a symbolic dim "
        'named "batch"'
    )
    saved(x=np.ones((3, 5), "float32"), scale=np.ones(3, "float32"), n=np.ones(3, "float32"))
    assert problem(load, 'file = "data.npz"', inputs) == (
        "net: calibration data, data.npz[0]: input 'x' has shape [1, 5], declared [1, 4]. "
        "The file must hold it as [examples x 1, 4] or [examples, 1, 4]"
    )


@pytest.mark.parametrize("declared", ["1, 4", "2, 4"])
def test_rows_of_a_file_make_runs_of_a_fixed_size(load, saved, declared):
    saved(x=numbered(4))
    inputs = f"x = {{ shape = [{declared}] }}"
    found = firsts(load('file = "data.npz"', inputs, ""))
    assert found == ([[0], [1], [2], [3]] if declared == "1, 4" else [[0, 1], [2, 3]])
    saved(x=numbered(5))
    if declared == "2, 4":
        assert problem(load, 'file = "data.npz"', inputs, "") == (
            "net: calibration data, data.npz[2]: input 'x' has shape [1, 4], declared [2, 4]. "
            "The file must hold it as [examples x 2, 4] or [examples, 2, 4]"
        )


def test_an_axis_more_holds_whole_inputs(load, saved):
    saved(x=numbered(6).reshape(3, 2, 4))
    assert firsts(load('file = "data.npz"')) == [[0, 1], [2, 3], [4, 5]]


def test_a_time_axis_that_leads_is_not_taken_for_the_batch(load, saved):
    inputs = 'x = { shape = ["time", "batch", 4] }'
    dims = "time = [5], batch = [2]"
    saved(x=np.ones((6, 2, 4), "float32"))
    assert problem(load, 'file = "data.npz"', inputs, dims) == (
        "net: calibration data, data.npz[0]: input 'x' has shape [2, 4], declared [time, batch, 4]"
        ". The file must hold whole inputs, [examples, time, batch, 4]"
    )
    saved(x=np.random.default_rng(0).normal(size=(6, 5, 2, 4)).astype("float32"))
    calibration = load('file = "data.npz"', inputs, dims)
    assert [batch["x"].shape for batch in calibration.batches] == [(5, 2, 4)] * 6


def test_the_batch_is_named_so_or_leads_everything(load, saved):
    saved(x=np.ones((3, 4), "float32"), y=np.ones((3, 4), "float32"))
    same = 'x = { shape = ["k", 4] }\ny = { shape = ["k", 4] }'
    assert len(load('file = "data.npz"', same, "k = [2]").batches) == 3
    two = 'x = { shape = ["k", 4] }\ny = { shape = ["m", 4] }'
    text = problem(load, 'file = "data.npz"', two, "k = [2], m = [2]")
    assert text.endswith("The file must hold whole inputs, [examples, k, 4]")


# sources


def test_a_callable_a_list_and_an_iterator_give_batches(load):
    batches = [[0.0], [1.0], [2.0]]
    assert firsts(load('source = "data.py:listed"')) == batches
    assert firsts(load('source = "data.py:several"')) == batches
    assert firsts(load('source = "data.py:iterator"')) == batches
    measured = load('source = "data.py:listed"').measured
    assert (measured.origin, measured.examples) == ("3 batches of data.py:listed", 3)


def test_an_iterator_that_was_read_is_told_apart_from_an_empty_one(load):
    load('source = "data.py:iterator"')
    assert problem(load, 'source = "data.py:iterator"') == (
        "net: calibration source data.py:iterator gives no batches: give at least one; an "
        "iterator can be read only once, so name a callable that makes a new one"
    )


def test_an_endless_generator_is_stopped(load):
    assert firsts(load('source = "data.py:endless", count = 2')) == [[0, 0], [1, 1]]
    measured = load('source = "data.py:endless"').measured
    assert (measured.origin, measured.examples) == ("64 batches of data.py:endless", 128)


def test_a_single_batch_is_enough(load):
    assert firsts(load('source = "data.py:single"')) == [[0.0, 0.0, 0.0]]


def test_a_buffer_that_is_filled_again_is_copied(load):
    assert firsts(load('source = "data.py:one_buffer"')) == [[1.0], [2.0]]


def test_tensors_are_taken(load):
    calibration = load('source = "data.py:tensors"')
    assert firsts(calibration) == [[1.0, 1.0], [2.0, 2.0]]
    assert isinstance(calibration.batches[0]["x"], np.ndarray)


@pytest.mark.parametrize("source", ["random", "shuffled"])
def test_what_torch_draws_for_a_source_is_the_same_every_time(load, source):
    before = torch.random.get_rng_state()
    first = load(f'source = "data.py:{source}"')
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.randn(3)
    assert load(f'source = "data.py:{source}"').measured == first.measured
    assert firsts(first) != sorted(firsts(first)) or source == "random"


# draws


def test_without_data_there_are_random_draws(load):
    calibration = load()
    assert len(calibration.batches) == 16
    assert {batch["x"].shape for batch in calibration.batches} == {(2, 4)}
    measured = calibration.measured
    assert (measured.random, measured.origin, measured.examples) == (True, "16 random draws", 32)
    assert load("count = 3, batch = 2").measured.origin == "3 random draws"
    assert [len(run) for run in firsts(load("count = 3, batch = 2"))] == [4, 2]


def test_draws_of_real_examples_are_not_random(load, saved):
    saved()
    inputs = 'x = { shape = ["batch", 4], fill = "file", file = "data.npz" }'
    measured = load(None, inputs).measured
    assert not measured.random
    assert measured.origin == "10 examples in 16 draws of the inputs' files"
    assert measured.examples == 10
    constant = 'scale = { shape = [1], fill = "constant", value = 2.0 }'
    assert not load(None, f"{inputs}\n{constant}").measured.random
    assert load(None, f"{inputs}\nz = {{ shape = [1] }}").measured.random


# what is measured


def test_the_hash_follows_the_data_and_how_it_is_cut(load, saved):
    saved()
    base = 'file = "data.npz"'
    hashes = [load(base).measured.sha256]
    for option in ("count = 9", "batch = 2", "seed = 1", "seed = 2"):
        hashes.append(load(f"{base}, {option}").measured.sha256)
    saved(x=numbered(10)[::-1])
    hashes.append(load(base).measured.sha256)
    changed = numbered(10)
    changed[7, 2] += 1e-3
    saved(x=changed)
    hashes.append(load(base).measured.sha256)
    assert len(set(hashes)) == len(hashes)
    saved()
    assert load(base).measured.sha256 == hashes[0]
    saved("other/same.npz")
    assert load('folder = "other"').measured.sha256 == hashes[0]


def test_the_hash_follows_names_and_dtypes(load, saved):
    zeros = np.zeros((2, 4), "float32")
    hashes = []
    for name, dtype in (("x", "float32"), ("y", "float32"), ("x", "int32")):
        saved(**{name: zeros.astype(dtype)})
        entry = f'{name} = {{ shape = ["batch", 4], dtype = "{dtype}", range = [0, 9] }}'
        hashes.append(load('file = "data.npz"', entry).measured.sha256)
    assert len(set(hashes)) == 3


def test_inputs_that_are_one_value_everywhere_are_told(load, saved):
    inputs = """
    zero = { shape = ["batch", 2] }
    three = { shape = ["batch", 2] }
    varied = { shape = ["batch", 2] }
    declared = { shape = ["batch", 2], fill = "constant", value = 1.0 }
    ids = { shape = ["batch", 2], dtype = "int64", range = [0, 5] }
    """
    ones = np.ones((5, 2), "float32")
    saved(
        zero=ones * 0,
        three=ones * 3,
        varied=np.arange(10, dtype="float32").reshape(5, 2),
        declared=ones,
        ids=np.zeros((5, 2), "int64"),
    )
    measured = load('file = "data.npz"', inputs).measured
    assert (measured.constant, measured.varies) == ({"zero": 0.0, "three": 3.0, "ids": 0.0}, True)


def test_token_ids_that_are_all_padding_are_told_and_masks_are_not(load, saved):
    inputs = """
    ids = { shape = ["batch", 4], dtype = "int64", range = [0, 5] }
    mask = { shape = ["batch", 4], dtype = "int64", range = [0, 1] }
    """
    ones = np.ones((3, 4), "int64")
    saved(ids=ones * 0, mask=ones)
    measured = load('file = "data.npz"', inputs).measured
    assert (measured.constant, measured.varies) == ({"ids": 0.0, "mask": 1.0}, False)
    saved(ids=ones * np.arange(4), mask=ones)
    measured = load('file = "data.npz"', inputs).measured
    assert (measured.constant, measured.varies) == ({}, True)


def test_a_single_number_is_not_called_constant(load, saved):
    saved(x=np.ones((1, 1), "float32"))
    assert load('file = "data.npz"', 'x = { shape = ["batch", 1] }').measured.constant == {}


# errors


RECIPE = "numpy.savez(path, x=...)"


def test_a_missing_file_or_folder_is_told_with_the_way_to_make_it(load, tmp_path):
    place = f"relative to the manifest's folder {tmp_path}"
    assert problem(load, 'file = "none.npz"') == (
        f"net: calibration file {tmp_path / 'none.npz'} not found: write it with {RECIPE}, or "
        f"correct calibration.file, {place}"
    )
    assert problem(load, 'folder = "none"') == (
        f"net: calibration folder {tmp_path / 'none'} not found: make it, or correct "
        f"calibration.folder, {place}"
    )
    (tmp_path / "none").mkdir()
    assert problem(load, 'folder = "none"') == (
        f"net: calibration folder {tmp_path / 'none'} holds no .npz and no .npy: write some with "
        f"{RECIPE}"
    )
    assert problem(load, 'file = "none"') == (
        f"net: calibration file {tmp_path / 'none'} is a folder: write calibration.folder = "
        "'none' instead"
    )


def test_an_unreadable_file_is_told(load, tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(b"not numpy")
    text = problem(load, 'file = "data.npz"')
    assert text.startswith(f"net: calibration data: {path}: cannot be read as .npy or .npz")
    assert text.endswith(f": write it with {RECIPE}")


@pytest.mark.parametrize(
    ("options", "chosen"), [("count = 64", 5), ("count = 6, seed = 3", 5), ("count = 5", None)]
)
def test_too_few_examples_are_told(load, saved, options, chosen):
    saved(x=numbered(5))
    if chosen is None:
        assert len(load(f'file = "data.npz", {options}').batches) == 5
        return
    count = int(re.search(r"count = (\d+)", options)[1])
    assert problem(load, f'file = "data.npz", {options}') == (
        f"net: data.npz holds 5 examples, calibration.count asks for {count}: give more, or set "
        "count = 5"
    )


def test_too_few_batches_are_told(load):
    assert problem(load, 'source = "data.py:listed", count = 64') == (
        "net: data.py:listed gives 3 batches, calibration.count asks for 64: give more, or set "
        "count = 3"
    )


FILES = {
    "empty": (
        {"x": numbered(0)},
        "net: data.npz holds no examples to calibrate with: their number is the size of the first "
        "axis; put some in",
    ),
    "another name": (
        {"image": numbered(3)},
        "net: calibration data: {path}: no array 'x'; it holds 'image': write it with " + RECIPE,
    ),
    "another dtype": (
        {"x": numbered(3).astype("float64")},
        "net: calibration data, data.npz: input 'x' is float64 where it comes from, declared "
        "float32: give it with .astype('float32')",
    ),
    "another size": (
        {"x": np.zeros((3, 5), "float32")},
        "net: calibration data, data.npz[0]: input 'x' has shape [1, 5], declared [batch, 4]. "
        "The file must hold it as [examples, 4] or [examples, batch, 4]",
    ),
    "another rank": (
        {"x": np.zeros((3, 1, 1, 4), "float32")},
        "net: calibration data, data.npz[0]: input 'x' has shape [1, 1, 4], declared [batch, 4]. "
        "The file must hold it as [examples, 4] or [examples, batch, 4]",
    ),
    "a single number": (
        {"x": np.float32(1)},
        "net: calibration data, data.npz: the first axis of every array counts examples, and here "
        "is x []: give the same number of each",
    ),
    "nan": (
        {"x": np.array([[0, 1, 2, 3], [0, np.nan, 2, np.inf]], "float32")},
        "net: calibration data, data.npz[1]: input 'x' is nan at [0, 1] (2 of 4 elements are not "
        "finite): no range follows from it. Mend or remove this example",
    ),
    "infinity": (
        {"x": np.array([[0, 1, -np.inf, 3]], "float32")},
        "net: calibration data, data.npz[0]: input 'x' is -inf at [0, 2] (1 of 4 elements are not "
        "finite): no range follows from it. Mend or remove this example",
    ),
}


@pytest.mark.parametrize("fault", FILES)
def test_a_file_that_does_not_fit_is_blamed(load, saved, tmp_path, fault):
    arrays, text = FILES[fault]
    saved(**arrays)
    assert problem(load, 'file = "data.npz"') == text.replace("{path}", str(tmp_path / "data.npz"))


def test_only_examples_that_are_taken_are_checked(load, saved):
    broken = numbered(3)
    broken[2] = np.nan
    saved(x=broken)
    assert len(load('file = "data.npz", count = 2').batches) == 2


def test_values_beyond_the_declared_range_are_blamed(load, saved):
    saved(x=np.array([[0, 1, 2, 255]], "float32"))
    inputs = 'x = { shape = ["batch", 4], range = [0.0, 1.0] }'
    assert problem(load, 'file = "data.npz"', inputs) == (
        "net: calibration data, data.npz[0]: input 'x' goes from 0 to 255, declared range [0, 1]. "
        "Scale the data as the model's inputs are scaled, or correct the range"
    )


def test_a_bound_that_float32_rounds_is_within_the_range(load, saved):
    saved(x=np.full((2, 4), 0.1, "float32"))
    load('file = "data.npz"', 'x = { shape = ["batch", 4], range = [0.0, 0.1] }')


def test_arrays_of_different_lengths_are_blamed(load, saved):
    saved(x=numbered(3), y=numbered(2))
    inputs = 'x = { shape = ["batch", 4] }\ny = { shape = ["batch", 4] }'
    assert problem(load, 'file = "data.npz"', inputs) == (
        "net: calibration data, data.npz: the first axis of every array counts examples, and here "
        "is x [3, 4], y [2, 4]: give the same number of each"
    )


def test_a_symbolic_dim_has_one_size_in_a_run(load, saved):
    saved(x=np.ones((2, 3), "float32"), y=np.ones((2, 5), "float32"))
    inputs = 'x = { shape = ["batch", "time"] }\ny = { shape = ["batch", "time"] }'
    assert problem(load, 'file = "data.npz"', inputs, "batch = [2], time = [3]") == (
        "net: calibration data, data.npz[0]: input 'y' has shape [1, 5], declared [batch, time], "
        "batch = 1, time = 3. The file must hold it as [examples, time] or [examples, batch, "
        "time]"
    )


def test_a_dim_that_grows_with_the_batch_cannot_be_stacked(load, saved):
    saved(x=np.ones((4, 1), "float32"))
    text = problem(load, 'file = "data.npz", batch = 2', 'x = { shape = ["batch", "batch"] }')
    assert "data.npz[0] to data.npz[1] in one run: input 'x' has shape [2, 1]" in text


FAILED = "failed, which must be or return an iterable of {input: array} batches: "

SOURCES = {
    "none": "net: calibration source data.py:none gives no batches: give at least one",
    "nothing": f"net: calibration source data.py:nothing {FAILED}TypeError: 'NoneType' object",
    "five": f"net: calibration source data.py:five {FAILED}TypeError: 'int' object",
    "fails": f"net: calibration source data.py:fails {FAILED}FileNotFoundError: no /data/images\n",
    "fails_later": f"net: calibration source data.py:fails_later {FAILED}ValueError: a bad image\n",
    "ragged": f"net: calibration source data.py:ragged {FAILED}ValueError: setting an array",
    "missing": "net: calibration.source: 'data.py:missing': data.py has no 'missing'",
    "unnamed": "net: calibration data, data.py:unnamed[0] gives a ndarray, expected a dict of "
    "arrays by input name: x",
    "other_name": "net: calibration data, data.py:other_name[0] gives ['y'], expected a dict of "
    "arrays by input name: x",
    "doubles": "net: calibration data, data.py:doubles[0]: input 'x' is float64 where it comes "
    "from, declared float32: give it with .astype('float32')",
    "too_wide": "net: calibration data, data.py:too_wide[1]: input 'x' has shape [1, 5], declared "
    "[batch, 4]. Give each batch in the declared shape",
    "not_finite": "net: calibration data, data.py:not_finite[1]: input 'x' is nan at [1, 3] (1 of "
    "8 elements are not finite): no range follows from it. Mend or remove this example",
}


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_that_is_wrong_is_named(load, name):
    assert problem(load, f'source = "data.py:{name}"').startswith(SOURCES[name])


def test_a_source_that_raises_is_located(load, tmp_path):
    text = problem(load, 'source = "data.py:fails"')
    assert re.search(rf"{re.escape(str(tmp_path / 'data.py'))}:\d+ in fails$", text)
