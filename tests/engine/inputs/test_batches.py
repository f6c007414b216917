"""Cases whose examples are all one, or of which one is quieter than the others."""

import functools

import numpy as np
import pytest
from references import PLAIN, batched

from pytest_onnxcheck.engine.inputs.batches import company, copies
from pytest_onnxcheck.engine.inputs.cases import Case


@pytest.fixture
def reference(tmp_path):
    """The reference of a model with these inputs and outputs; its module is never run."""
    return functools.partial(batched, tmp_path)


def test_copies_are_of_the_size_of_the_case(reference):
    made = reference(PLAIN + "\ninputs.z = { shape = [2] }")
    x = np.float32([1, 2, 3]).reshape(-1, 1, 1) * np.ones((3, 4, 2), np.float32)
    given = Case("case", {"x": x, "z": np.float32([5, 6])})
    found = copies(made, given, "batch", 1)
    assert found.name == "case, copies of example 1"
    assert (found.inputs["x"] == 2).all()
    assert found.inputs["z"] is given.inputs["z"]


def test_company_has_one_quiet_example(reference):
    made = company(reference())
    assert made.probe
    assert made.lenient == "no case of the manifest has an example as quiet beside louder ones"
    loudness = np.abs(made.inputs["x"]).mean((1, 2))
    assert loudness.shape == (3,)
    assert loudness[2] < 0.05
    assert (loudness[:2] > 0.3).all()


def test_company_is_inside_a_range_that_holds_zero(reference):
    ranged = PLAIN.replace("2] }", "2], range = [-3, 1] }")
    assert company(reference(ranged)) is not None
    assert company(reference(PLAIN.replace("2] }", "2], range = [1, 3] }"))) is None


def test_there_is_no_company_for_a_batch_of_one(reference):
    assert company(reference(dims="batch = [1], time = [4]")) is None


def test_there_is_no_company_for_integers(reference):
    text = 'inputs.x = { shape = ["batch"], dtype = "int64", range = [0, 9] }'
    assert company(reference(text + '\noutputs.y.shape = ["batch"]', "batch = [1, 3]")) is None
