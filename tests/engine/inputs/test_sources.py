"""Reading what the user names: seeded, and with errors that say what failed and where."""

import numpy as np
import pytest
import torch

from pytest_onnxcheck.engine.inputs.sources import copied_batch, reading, running, seeded
from pytest_onnxcheck.errors import InputError, QuantizeError


class Model:
    seed = 3


def test_what_cannot_be_read_is_told_as_the_callers_error():
    with (
        pytest.raises(QuantizeError) as caught,
        reading(QuantizeError, "net: calibration data: ", ": write it"),
    ):
        raise InputError("x.npz: not found")
    assert str(caught.value) == "net: calibration data: x.npz: not found: write it"
    assert isinstance(caught.value.__cause__, InputError)


def test_an_error_of_our_own_code_is_not_reworded():
    with pytest.raises(ZeroDivisionError), reading(InputError, "net: "):
        raise ZeroDivisionError


def test_what_the_users_code_raises_is_told_with_its_frames():
    def draw():
        raise StopIteration(5)

    with pytest.raises(InputError) as caught, running(InputError, "net: f() failed"):
        draw()
    first, *frames = str(caught.value).splitlines()
    assert first == "net: f() failed: StopIteration: 5"
    assert frames[-1].endswith("in draw")


def test_torchs_random_numbers_are_seeded_and_put_back():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with seeded(Model):
        first = torch.rand(2)
    assert torch.equal(torch.rand(2), expected)
    with seeded(Model):
        assert torch.equal(torch.rand(2), first)


def test_a_batch_is_copied_and_what_is_none_stays():
    batch = {"x": np.zeros(2)}
    found = copied_batch(batch)
    batch["x"][0] = 1
    assert found["x"].tolist() == [0, 0]
    assert copied_batch(5) == 5
