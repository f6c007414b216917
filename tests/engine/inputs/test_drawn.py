"""Inputs of a file of which its interface alone is known."""

import numpy as np

from pytest_onnxcheck.engine.inputs.drawn import drawn
from pytest_onnxcheck.measurement import TensorSpec


def test_open_dims_get_the_size_and_types_are_kept():
    specs = [
        TensorSpec("x", "float16", ("batch", 3, "?")),
        TensorSpec("ids", "int64", (2,)),
        TensorSpec("mask", "bool", ()),
    ]
    x, ids, mask = drawn(specs, 4)
    assert (x.shape, x.dtype) == ((4, 3, 4), np.float16)
    assert set(ids.tolist()) <= {0, 1}
    assert (mask.shape, mask.dtype) == ((), np.bool_)


def test_the_same_is_drawn_again():
    specs = [TensorSpec("x", "float32", (5,))]
    assert np.array_equal(drawn(specs, 1)[0], drawn(specs, 1)[0])


def test_what_nobody_can_draw_is_not_drawn():
    assert drawn([TensorSpec("x", "string", (1,))], 1) is None
    assert drawn([TensorSpec("x", "bfloat16", (1,))], 1) is None
