"""The examples of a batch: which they are, how loud, and how far off each is."""

import functools
import math

import numpy as np
import pytest
from references import PLAIN, batched

from pytest_onnxcheck.engine.inputs.batches import leading_dim
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.rows import (
    Batch,
    batch_of,
    quiet_floors,
    row_errors,
)


@pytest.fixture
def reference(tmp_path):
    """The reference of a model with these inputs and outputs; its module is never run."""
    return functools.partial(batched, tmp_path)


def case(**inputs):
    return Case("case", {name: np.float32(value) for name, value in inputs.items()})


X = np.ones((3, 4, 2), np.float32)


def scaled(*sizes):
    return X * np.float32(sizes).reshape(-1, 1, 1)


def batch(*loudness):
    return Batch("batch", np.array(loudness), frozenset("y"))


# which they are


def test_the_examples_are_along_the_first_dim_of_inputs_and_outputs(reference):
    found = batch_of(reference(), case(x=scaled(1, 100, 10)))
    assert (found.dim, found.outputs) == ("batch", {"y"})
    assert found.loudness == pytest.approx([0.01, 1, 0.1])
    assert found.quiet.tolist() == [True, False, True]
    assert found.share == pytest.approx([0.01, 1, 0.1])


def test_outputs_without_examples_have_none(reference):
    text = PLAIN + '\noutputs.total.shape = []\noutputs.other.shape = ["batch"]'
    assert batch_of(reference(text), case(x=X)).outputs == {"y", "other"}


def test_where_one_input_is_loud_the_example_is_not_quiet(reference):
    text = PLAIN + '\ninputs.z = { shape = ["batch"] }'
    found = batch_of(reference(text), case(x=scaled(1, 1, 0.01), z=[1, 0.01, 1]))
    assert found.loudness == pytest.approx([1, 1, 1])


def test_integers_are_not_loud(reference):
    text = 'inputs.x = { shape = ["batch"], dtype = "int64", range = [0, 9] }'
    text += '\noutputs.y.shape = ["batch"]'
    numbers = Case("case", {"x": np.int64([1, 1000, 10])})
    assert batch_of(reference(text, "batch = [1, 3]"), numbers).loudness.tolist() == [1, 1, 1]


def test_nan_and_infinity_are_not_loud(reference):
    x = scaled(1, 1, 0.5)
    x[0, 0, 0], x[1, 0, 0] = np.inf, np.nan
    assert batch_of(reference(), case(x=x)).quiet.tolist() == [False, False, False]


@pytest.mark.parametrize(
    "text",
    [
        'inputs.x.shape = ["batch", "time"]\noutputs.y.shape = ["time", "batch"]',
        'inputs.x.shape = ["batch", "time"]\noutputs.y.shape = ["batch", "batch", "time"]',
        'inputs.x.shape = ["batch"]\ninputs.z.shape = ["time"]\n'
        'outputs.y.shape = ["batch"]\noutputs.w.shape = ["time"]',
        'inputs.x.shape = ["batch", "time"]\noutputs.y.shape = []',
        'inputs.x.shape = [2, "batch", "time"]\noutputs.y.shape = [2]',
    ],
    ids=["swapped", "pairs", "two dims", "no example in the output", "fixed"],
)
def test_other_dims_count_no_examples(reference, text):
    made = reference(text)
    sizes = {"batch": 3, "time": 4}
    arrays = {
        name: np.ones([sizes.get(dim, dim) for dim in shape]) for name, shape in made.shapes.items()
    }
    assert batch_of(made, Case("case", arrays)) is None
    assert leading_dim(made) is None


def test_one_example_alone_is_no_batch(reference):
    assert batch_of(reference(), case(x=X[:1])) is None


# how far off


def errors(found, expected, actual):
    return {row.metric: row for row in row_errors(found, np.array(expected), np.array(actual))}


def test_a_quiet_example_is_held_to_its_own_magnitude():
    expected = np.float32([[100, -100], [1, -1]])
    actual = expected + np.float32([[0.1, 0], [0.3, 0.4]])
    found = errors(batch(1, 0.01), expected, actual)
    row = found["rel_rms"]
    assert (row.index, row.loudest, row.loudness) == (1, 0, 0.01)
    assert row.value == pytest.approx(0.5 / math.sqrt(2), rel=1e-5)
    assert row.alone is None
    cosine = (1.3 + 0.6) / math.sqrt(2) / math.hypot(1.3, 0.6)
    assert (found["cosine"].index, found["cosine"].value) == (1, pytest.approx(cosine))


def test_an_example_that_is_small_by_chance_is_held_to_the_whole_outputs():
    expected = np.float32([[100.0], [1.0]])
    found = errors(batch(1, 0.9), expected, expected - np.float32([[0.1], [2.0]]))
    assert found["rel_rms"].value == pytest.approx(2 / math.sqrt(5000), rel=1e-3)
    assert found["cosine"].value == 1  # and not -1


def test_an_error_in_one_example_is_not_spread_over_the_others():
    expected = np.ones((8, 4))
    actual = expected.copy()
    actual[5] = 1.5
    found = errors(batch(*[1] * 8), expected, actual)
    assert (found["rel_rms"].index, found["rel_rms"].value) == (5, pytest.approx(0.5))


def test_examples_of_nothing_are_not_told():
    expected = np.float64([[1.0, 1.0], [0.0, 0.0]])
    found = errors(batch(1, 0), expected, expected + 1e-9)
    assert found["rel_rms"].value < 1e-8
    assert errors(batch(1, 1), np.zeros((2, 2)), np.zeros((2, 2))) == {}


def test_large_numbers_do_not_overflow():
    expected = np.float64([[1e200, 1e200], [1e198, -1e198]])
    found = errors(batch(1, 0.01), expected, expected * [[1.0], [1.25]])
    assert found["rel_rms"].value == pytest.approx(0.25)


def test_nan_and_infinity_are_left_out():
    expected = np.float32([[np.nan, 1], [np.inf, 1]])
    assert errors(batch(1, 1), expected, expected)["rel_rms"].value == 0


# in floors


def floors(found, error, *, moved=0.0, floor=1e-3, usual=0.0, exact=((1.0, -1.0), (0.01, 0.01))):
    exact = np.array(exact)
    return quiet_floors(
        found, exact, np.zeros_like(exact) + error, np.zeros_like(exact) + moved, floor, usual
    )


def test_a_quiet_example_has_a_floor_of_its_own():
    row = floors(batch(1, 0.01), [[0.0], [1e-4]])
    assert (row.metric, row.index, row.value) == ("floors", 1, pytest.approx(10))


def test_what_rounding_moves_in_it_raises_its_floor():
    assert floors(batch(1, 0.01), [[0.0], [1e-4]], moved=[[0], [1e-4]]).value == pytest.approx(1)


def test_it_is_not_asked_to_be_more_exact_than_as_quiet_ones_usually_are():
    found = floors(batch(1, 0.01), [[0.0], [1e-4]], usual=100.0)
    assert found.value == pytest.approx(10)  # the floor is of a hundred, as the usual magnitude
    cancelled = ((1.0, -1.0), (1e-9, 1e-9))
    assert floors(batch(1, 0.01), [[0.0], [1e-5]], exact=cancelled).value == pytest.approx(1)


def test_an_example_that_is_not_quiet_has_none():
    assert floors(batch(1, 0.5), [[0.0], [1.0]]) is None


def test_an_example_of_nothing_has_none():
    assert floors(batch(1, 0.0), [[0.0], [1e-9]], exact=((1.0, 1.0), (0.0, 0.0))) is None
