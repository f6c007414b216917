"""Weights that float16 clips, and weights that it turns to zero."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_onnxcheck.engine.graph.lost_weights import lost_weights, small_constants

W = np.linspace(-1, 1, 200, dtype=np.float32)


def save(path, **tensors):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(array, name) for name, array in tensors.items()],
    )
    onnx.save(helper.make_model(graph), path)
    return path


@pytest.fixture
def lost(tmp_path):
    """What converting a tensor named `w` loses; `stored` is the type it is held in."""

    def find(values, precision="fp16", stored="float16"):
        with np.errstate(over="ignore"):
            half = np.clip(values, -65504, 65504).astype(stored)
        plain = save(tmp_path / "plain.onnx", w=values, size=np.int64([1, 2]))
        converted = save(tmp_path / "converted.onnx", w=half, size=np.int64([1, 2]))
        return lost_weights(converted, plain, precision)

    return find


def changed(**elements):
    values = W.copy()
    for position, value in elements.items():
        values[int(position[1:])] = value
    return values


def test_ordinary_weights_are_kept(lost):
    assert lost(W) == ((), ())
    assert lost(changed(_3=65504.0, _4=-65504.0, _5=6e-8)) == ((), ())


def test_weights_beyond_the_largest_are_clipped(lost):
    found = lost(changed(_3=7e4, _4=-1e30))
    assert found == (("w (2 of 200 elements)",), ())


def test_weights_in_external_data_count(tmp_path):
    for name, kind in {"plain": np.float32, "converted": np.float16}.items():
        values = np.clip(changed(_3=7e4), -65504, 65504) if name == "converted" else changed(_3=7e4)
        model = onnx.load(save(tmp_path / f"{name}.onnx", w=values.astype(kind)))
        path = tmp_path / f"{name}.onnx"
        onnx.save(
            model, path, save_as_external_data=True, location=f"{name}.data", size_threshold=0
        )
    found = lost_weights(tmp_path / "converted.onnx", tmp_path / "plain.onnx", "fp16")
    assert found == (("w (1 of 200 elements)",), ())


def test_infinity_is_not_clipped(lost):
    assert lost(changed(_3=np.inf, _4=-np.inf, _5=np.nan)) == ((), ())


def test_weights_below_half_the_smallest_vanish(lost):
    tiny = changed(_1=2.0**-25, _2=-1e-30, _3=0.0)
    assert lost(tiny) == ((), ("w (2 of 200 elements)",))


def test_one_of_many_next_to_zero_is_no_loss(lost):
    assert lost(changed(_1=1e-9)) == ((), ())


def test_a_whole_tensor_may_vanish(lost):
    assert lost(W * np.float32(1e-9))[1] == ("w (200 of 200 elements)",)


@pytest.mark.parametrize("value", [-1e9, np.finfo(np.float32).min, 1e-12])
def test_masks_and_constants_are_no_weights(lost, value):
    mask = np.triu(np.full((8, 8), value, np.float32))
    assert lost(mask) == ((), ())
    assert lost(np.float32([value])) == ((), ())


@pytest.mark.parametrize("value", [-1e9, -1e6, np.finfo(np.float32).min])
def test_a_mask_added_to_a_bias_is_no_weight(lost, value):
    slopes = -np.arange(8, dtype=np.float32) * np.float32(0.25)
    bias = slopes + np.triu(np.full((8, 8), value, np.float32), 1)
    assert lost(bias) == ((), ())
    assert lost(changed(_3=value)) == (("w (1 of 200 elements)",), ())  # and one is an outlier
    bias[0, 0] = 7e4
    assert lost(bias)[0] == ("w (29 of 64 elements)",)


def test_weights_in_constant_nodes_count(tmp_path):
    def save_constant(path, values):
        nodes = [
            helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(values, "other")),
            helper.make_node("Identity", ["w"], ["y"]),
        ]
        kind = helper.np_dtype_to_tensor_dtype(values.dtype)
        outputs = [helper.make_tensor_value_info("y", kind, [200])]
        onnx.save(helper.make_model(helper.make_graph(nodes, "graph", [], outputs)), path)
        return path

    values = changed(_3=7e4)
    plain = save_constant(tmp_path / "plain.onnx", values)
    converted = save_constant(
        tmp_path / "converted.onnx", np.clip(values, -65504, 65504).astype(np.float16)
    )
    assert lost_weights(converted, plain, "fp16") == (("w (1 of 200 elements)",), ())


def test_what_stays_in_float32_is_not_lost(lost):
    assert lost(changed(_3=7e4), stored="float32") == ((), ())
    assert lost(changed(_3=7e4), precision="half", stored="float32")[0]  # the module was cast


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8-static", "int4-weight"])
def test_other_precisions_lose_none(lost, precision):
    assert lost(changed(_3=7e4), precision=precision) == ((), ())


@pytest.fixture
def small(tmp_path):
    """What is told of a tensor named `w` that a converter has made another of."""

    def find(values, here, stored="float16"):
        plain = save(tmp_path / "plain.onnx", w=np.float32(values))
        return small_constants(save(tmp_path / "half.onnx", w=np.asarray(here, stored)), plain)

    return find


def test_a_constant_that_is_raised_is_told_with_both_values(small):
    assert small(1e-9, 6e-8) == ("w (1e-09, here 5.96e-08)",)
    assert small([0.0, -1e-9], [0.0, -6e-8]) == ("w (-1e-09, here -5.96e-08)",)


def test_a_constant_that_vanishes_is_told(small):
    assert small([1e-9], [0.0]) == ("w (1e-09, here 0)",)


def test_constants_that_float16_holds_are_not_told(small):
    assert small(1e-5, 1e-5) == ()
    assert small([1.0, 1e-9], [1.0, 6e-8]) == ()
    assert small([0.0], [0.0]) == ()
    assert small(-1e9, -65504.0) == ()  # a mask
    assert small(1e-9, 1e-9, stored="float32") == ()
