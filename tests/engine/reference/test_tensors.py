"""What a module returns, however nested, becomes one flat row of tensors with paths."""

import collections
import dataclasses
from collections import namedtuple

import numpy as np
import pytest
import torch
import torch.utils._pytree

from pytest_onnxcheck.engine.reference.tensors import (
    arrays_of,
    flatten,
    flattens,
    output_paths,
    tensors_of,
)
from pytest_onnxcheck.errors import InputError

Pair = namedtuple("Pair", ["left", "right"])


@dataclasses.dataclass
class Output:
    logits: torch.Tensor
    hidden: tuple
    loss: torch.Tensor | None = None


def scalar(value):
    return torch.tensor(float(value))


class Registered:
    """Something that pytree knows and Python does not."""

    def __init__(self, *held):
        self.held = held


torch.utils._pytree.register_pytree_node(
    Registered,
    lambda value: (list(value.held), None),
    lambda held, _: Registered(*held),
    serialized_type_name="tests.Registered",
)


NESTED = {
    "a tensor": (scalar(1), ["0"], [1]),
    "a list": ([scalar(1), scalar(2)], ["0", "1"], [1, 2]),
    "a dict": ({"b": scalar(1), "a": (scalar(2), scalar(3))}, ["b", "a.0", "a.1"], [1, 2, 3]),
    "a namedtuple": (Pair(scalar(1), scalar(2)), ["left", "right"], [1, 2]),
    "a dataclass": (Output(scalar(1), (scalar(2),)), ["logits", "hidden.0"], [1, 2]),
    "a registered node": ([Registered(scalar(1), (scalar(2),))], ["0.0", "0.1.0"], [1, 2]),
    "numbers": ((1, 2.5, True), ["0", "1", "2"], [1, 2.5, 1]),
}


@pytest.mark.parametrize(("value", "paths", "numbers"), NESTED.values(), ids=NESTED)
def test_nested_tensors_are_flattened_in_order_and_none_is_left_out(value, paths, numbers):
    assert output_paths(value) == paths
    assert [float(tensor) for tensor in flatten(value)] == numbers


@pytest.mark.parametrize(
    ("value", "alike"),
    [
        (scalar(1), True),
        ([scalar(1), (scalar(2), {"a": None})], True),
        (Pair(scalar(1), 2), True),
        (collections.OrderedDict(b=scalar(1), a=scalar(2)), True),
        ({("disparity", 0): scalar(1)}, False),
        ([Output(scalar(1), ())], False),
        ({"a": Registered(scalar(1))}, False),
    ],
)
def test_what_exporters_take_apart_as_we_do(value, alike):
    assert flattens(value) is alike


def test_what_holds_no_tensors_is_refused():
    with pytest.raises(InputError, match="forward returned a str, which holds no tensors"):
        flatten({"text": "no"})


def test_bfloat16_becomes_float32_and_other_types_stay():
    half = torch.ones(2, dtype=torch.float16)
    found = arrays_of([torch.ones(2, dtype=torch.bfloat16), half, torch.ones(2, dtype=torch.int8)])
    assert [array.dtype.name for array in found] == ["float32", "float16", "int8"]


def test_tensors_are_copies_of_the_arrays():
    x = np.zeros(3, "float32")
    tensors_of({"x": x})["x"][0] = 1
    assert x.tolist() == [0, 0, 0]
