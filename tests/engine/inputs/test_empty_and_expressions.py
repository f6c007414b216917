"""Inputs of size 0, and sizes that follow from dims: drawn, probed, swept, masked, calibrated."""

import numpy as np
import pytest
from references import batched

from pytest_onnxcheck.engine.inputs import masks
from pytest_onnxcheck.engine.inputs.arrays import batch_dim
from pytest_onnxcheck.engine.inputs.batches import leading_dim
from pytest_onnxcheck.engine.inputs.calibration import load_calibration
from pytest_onnxcheck.engine.inputs.cases import (
    declared_cases,
    dims_of,
    example,
    example_dims,
    fill_inputs,
    timed_inputs,
)
from pytest_onnxcheck.engine.inputs.probes import probes
from pytest_onnxcheck.engine.inputs.sizes import plan_sweeps
from pytest_onnxcheck.engine.oracle.rows import batch_of
from pytest_onnxcheck.errors import InputError, QuantizeError
from pytest_onnxcheck.manifest.sections import Input

DECODER = """
inputs.ids = { shape = ["batch", "new"], dtype = "int64", range = [0, 9] }
inputs.attention_mask = { shape = ["batch", "past + new"], dtype = "int64", range = [0, 1] }
inputs.k = { shape = ["batch", "past", 4] }
outputs.y.shape = ["batch", "new", 10]
outputs.present.shape = ["batch", "past + new", 4]
"""
DIMS = "batch = [1, 2], new = [1, 4], past = [0, 3, 5]"


@pytest.fixture
def decoder(tmp_path):
    return batched(tmp_path, DECODER, DIMS)


def test_an_expression_follows_its_dims(decoder):
    arrays = fill_inputs(decoder, {"batch": 2, "new": 4, "past": 0}, "case", 0)
    assert [array.shape for array in arrays.values()] == [(2, 4), (2, 4), (2, 0, 4)]
    assert dims_of(decoder, arrays) == {"batch": 2, "new": 4, "past": 0}
    assert all(case.inputs["attention_mask"].any(-1).all() for case in declared_cases(decoder))


def test_nothing_is_exported_with_a_size_of_0(decoder):
    assert example_dims(decoder.model) == {"batch": 2, "new": 4, "past": 3}
    assert {name: array.shape for name, array in example(decoder).items()} == {
        "ids": (2, 4),
        "attention_mask": (2, 7),
        "k": (2, 3, 4),
    }


def test_a_size_that_is_none_is_an_error_of_the_input(tmp_path):
    made = batched(tmp_path, 'inputs.x.shape = ["n / 2"]\noutputs.y.shape = ["n"]', "n = [2, 8]")
    with pytest.raises(InputError, match=r"input 'x': 'n / 2' is 1.5 at n = 3, which is no size"):
        fill_inputs(made, {"n": 3}, "case", 0)
    assert {probe.dims["n"] % 2 for probe in probes(made)} == {0}


def test_probes_of_values_are_never_empty(decoder):
    found = probes(decoder)
    assert {probe.dims["past"] for probe in found} <= {1, 2, 3, 5}
    assert all(array.size for probe in found for array in probe.case(decoder).inputs.values())


def test_probes_of_what_is_always_empty_are_made_all_the_same(tmp_path):
    made = batched(tmp_path, dims="batch = [0], time = [4]")
    assert {probe.case(made).inputs["x"].shape for probe in probes(made)} == {(0, 4, 2)}


def test_a_range_from_0_is_swept_from_0_beside_usual_sizes(tmp_path):
    made = batched(tmp_path, DECODER, "batch = [1, 2], new = [1], past = { from = 0, to = 9 }")
    assert made.model.dims["past"] == (0, 3, 9)
    (sweep,) = plan_sweeps(made, lambda elements: 1e-6)
    assert sorted(sweep.probes) == list(range(10))
    assert {probe.dims["batch"] for probe in sweep.probes.values()} == {2}
    assert sweep.probes[0].case(made).inputs["attention_mask"].shape == (2, 1)


def test_a_dim_that_stands_in_expressions_alone_is_swept(tmp_path):
    text = 'inputs.x.shape = ["2 * half", 3]\noutputs.y.shape = ["half"]'
    (sweep,) = plan_sweeps(batched(tmp_path, text, "half = [1, 4]"), lambda elements: 1e-6)
    assert (sweep.dim, sorted(sweep.probes)) == ("half", [1, 2, 3, 4])


def test_the_batch_is_no_expression(tmp_path, decoder):
    assert batch_dim(decoder) == leading_dim(decoder) == "batch"
    text = 'inputs.x.shape = ["n", "2 * n"]\noutputs.y.shape = ["n"]'
    assert leading_dim(batched(tmp_path, text, "n = [2]")) is None


def test_an_empty_input_beside_others_makes_no_example_quiet(tmp_path, decoder):
    inputs = fill_inputs(decoder, {"batch": 2, "new": 4, "past": 0}, "case", 0)
    text = 'inputs.x.shape = ["n", 4]\ninputs.k.shape = ["n", 0]\noutputs.y.shape = ["n", 4]'
    made = batched(tmp_path, text, "n = [2]")
    (case,) = declared_cases(made)
    assert not batch_of(made, case).quiet.any()
    (first, *_) = declared_cases(decoder)
    assert batch_of(decoder, first) is None  # a batch of one
    assert inputs["k"].size == 0


def test_a_row_without_elements_masks_nothing_and_is_not_whole():
    entry = {"m": Input(dtype="int64", fill="mask", shape=(2, 0)).named("m")}
    empty = {"m": np.zeros((2, 0), "int64")}
    assert masks.empty_rows(entry, empty) == masks.whole_rows(entry, empty) == []


def test_masks_of_size_0_are_drawn(tmp_path):
    text = 'inputs.m = { shape = ["n", "t"], fill = "mask" }\noutputs.y.shape = ["n"]'
    made = batched(tmp_path, text, "n = [0, 2], t = [0, 3]")
    assert [case.inputs["m"].shape for case in declared_cases(made)] == [
        (0, 0),
        (0, 3),
        (2, 0),
        (2, 3),
    ]


# calibration


def calibrated(folder, text=DECODER, dims=DIMS, **arrays):
    np.savez(folder / "data.npz", **arrays)
    (folder / "data.py").write_text(
        "import numpy as np\ndef load():\n    yield dict(np.load('data.npz'))\n".replace(
            "data.npz", str(folder / "data.npz")
        )
    )
    return load_calibration(batched(folder, f'{text}\ncalibration.source = "data.py:load"', dims))


def step(past, mask):
    return {
        "ids": np.arange(8).reshape(2, 4),
        "attention_mask": np.ones((2, mask), "int64"),
        "k": np.zeros((2, past, 4), "float32"),
    }


def test_an_empty_cache_calibrates_where_dims_say_so(tmp_path):
    found = calibrated(tmp_path, **step(0, 4))
    assert found.batches[0]["k"].shape == (2, 0, 4)
    assert "k" not in found.measured.constant
    with pytest.raises(QuantizeError, match=r"input 'k' has shape \[2, 0, 4\]"):
        calibrated(tmp_path, dims="batch = [2], new = [4], past = [3]", **step(0, 4))


def test_an_expression_is_held_to_its_dims(tmp_path):
    text = (
        r"'attention_mask' has shape \[2, 6\], declared \[batch, past \+ new\], new = 4, past = 3"
    )
    with pytest.raises(QuantizeError, match=text):
        calibrated(tmp_path, **step(3, 6))


# own cases alone

OWN = """
inputs.ids = { shape = ["batch", 3], dtype = "int64" }
outputs.y.shape = ["batch"]
draws = 0
"""


def owned(folder, *batches, more=""):
    for index, batch in enumerate(batches):
        np.save(folder / f"{index}.npy", np.arange(3 * batch).reshape(batch, 3))
    lines = [f'cases.c{index}.file = "{index}.npy"' for index in range(len(batches))]
    return batched(folder, "\n".join([OWN, *lines, more]), "batch = [1, 2]")


def test_with_draws_0_there_are_own_cases_alone(tmp_path):
    made = owned(tmp_path, 1, 4)
    assert [case.name for case in declared_cases(made)] == ["case:c0", "case:c1"]
    assert plan_sweeps(made, lambda elements: 1e-6) == []


def test_the_export_takes_the_first_own_case_whose_sizes_are_above_1(tmp_path):
    assert example(owned(tmp_path, 1, 4, 5))["ids"].shape == (4, 3)
    assert example(owned(tmp_path, 1, 0))["ids"].shape == (1, 3)


def test_a_case_outside_the_range_is_exported_with_only_where_there_is_no_other(tmp_path):
    outside = "cases.c0.outside_range = true"
    assert example(owned(tmp_path, 2, 4, more=outside))["ids"].shape == (4, 3)
    assert timed_inputs(owned(tmp_path, 2, 4, more=outside), {})[0] == {"batch": 4}
    assert example(owned(tmp_path, 2, more=outside))["ids"].shape == (2, 3)


def test_int8_static_calibrates_with_own_cases(tmp_path):
    found = load_calibration(owned(tmp_path, 1, 4))
    assert [batch["ids"].shape for batch in found.batches] == [(1, 3), (4, 3)]
    assert found.measured.origin == "2 inputs of your own (`cases`, `example`)"
    assert not found.measured.random
    with pytest.raises(QuantizeError, match="of which there are 2, and 3 wanted: name data in"):
        load_calibration(owned(tmp_path, 1, 4, more="calibration.count = 3"))
