"""float16 values that are lost by being stored, though the CPU keeps them."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from pytest_onnxcheck.engine.runtime.overflow import stored_outputs, underflowed

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def halved(tmp_path):
    """Saves y = relu(x * small) * large in float16, or what else the nodes compute."""

    def save(small, large=1.0, *, keep_io_types=True):
        nodes = [
            helper.make_node("Mul", ["x", "small"], ["shrunk"]),
            helper.make_node("Relu", ["shrunk"], ["positive"]),
            helper.make_node("Mul", ["positive", "large"], ["y"]),
        ]
        weights = {"small": np.float32([small]), "large": np.float32([large])}
        graph = helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
            [numpy_helper.from_array(array, name) for name, array in weights.items()],
        )
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        path = tmp_path / "half.onnx"
        onnx.save(convert_float_to_float16(model, keep_io_types=keep_io_types), path)
        return path

    return save


def test_values_that_are_kept_are_not_told(halved):
    assert list(underflowed(halved(1.0), {"x": X})) == []
    assert list(underflowed(halved(1e-4), {"x": X})) == []


def test_values_that_are_mostly_zero_in_float16_are_told_by_name(halved):
    small = X * np.float32(1e-4)
    assert list(underflowed(halved(1e-4, 1e4), {"x": small})) == ["shrunk", "positive"]


def test_weights_in_external_data_stay_there(halved):
    path = halved(1e-4, 1e4)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="half.data", size_threshold=0)
    assert path.with_name("half.data").is_file()
    small = X * np.float32(1e-4)
    assert list(underflowed(path, {"x": small})) == ["shrunk", "positive"]


def test_a_tail_beside_large_elements_is_no_loss(halved):
    tail = np.full((3, 4), 1e-9, np.float32)
    tail[0, 0] = 1.0
    assert list(underflowed(halved(1.0), {"x": tail})) == []


def test_inputs_in_float16_are_taken(halved):
    small = (X * np.float32(1e-4)).astype(np.float16)
    path = halved(1e-4, 1e4, keep_io_types=False)
    assert "shrunk" in underflowed(path, {"x": small})


def test_values_that_overflow_are_told_with_what_follows(halved):
    path = halved(6e4, 6e4)
    assert stored_outputs(path, {"x": X * np.float32(1e-6)}) is None
    names, outputs = stored_outputs(path, {"x": X * np.float32(1e2)})
    assert names[0] == "shrunk"
    assert np.isinf(outputs["y"]).any()
