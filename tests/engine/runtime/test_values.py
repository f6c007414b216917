"""OpenedGraph: every value of an artefact, with its own dtype, in parts, from external data too."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.errors import RunError

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def save(path, nodes, weights=None, *, dtype=TensorProto.FLOAT, **saving):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", dtype, ["batch", 3])],
        [helper.make_tensor_value_info("y", dtype, ["batch", None])],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, path, **saving)
    return path


@pytest.fixture
def perceptron(tmp_path):
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["product"], "product"),
        helper.make_node("Relu", ["product"], ["relu"], "relu"),
        helper.make_node("Shape", ["relu"], ["size"], "size"),
        helper.make_node("Add", ["relu", "b"], ["y"], "add"),
    ]
    weights = {"w": np.eye(3, 300, dtype=np.float32), "b": np.ones(300, np.float32)}
    return tmp_path / "model.onnx", nodes, weights


def test_every_value_comes_in_order_with_its_dtype(perceptron):
    found = dict(OpenedGraph(save(*perceptron)).values({"x": X}))
    assert list(found) == ["product", "relu", "size", "y"]
    assert found["product"].shape == (2, 300)
    assert found["size"].tolist() == [2, 300]
    assert found["size"].dtype == np.int64
    assert np.array_equal(found["y"], found["relu"] + 1)


def test_only_the_names_asked_for_are_computed(perceptron):
    assert list(dict(OpenedGraph(save(*perceptron)).values({"x": X}, ["relu"]))) == ["relu"]


def test_a_limit_cuts_the_values_into_parts_that_change_nothing(perceptron, monkeypatch):
    exposed = OpenedGraph(save(*perceptron))
    whole = dict(exposed.values({"x": X}))
    runs = []
    run = exposed._run
    monkeypatch.setattr(
        exposed, "_run", lambda inputs, names: runs.append(names) or run(inputs, names)
    )
    parts = dict(exposed.values({"x": X}, limit_bytes=2 * 300 * 4))
    assert runs == [["product"], ["relu"], ["size"], ["y"]] or len(runs) > 2
    assert list(parts) == list(whole)
    assert all(np.array_equal(parts[name], whole[name]) for name in whole)


def test_sizes_follow_the_actual_inputs(perceptron):
    sizes = OpenedGraph(save(*perceptron)).sizes({"x": np.zeros((5, 3), np.float32)})
    assert sizes["product"] == 5 * 300 * 4


def test_weights_in_a_file_of_their_own_are_found(perceptron):
    path = save(*perceptron, save_as_external_data=True, location="weights.bin", size_threshold=64)
    assert (path.parent / "weights.bin").exists()
    assert dict(OpenedGraph(path).values({"x": X}))["y"].shape == (2, 300)


def test_half_precision_stays_half_precision(tmp_path):
    nodes = [helper.make_node("Exp", ["x"], ["e"]), helper.make_node("Neg", ["e"], ["y"])]
    path = save(tmp_path / "model.onnx", nodes, dtype=TensorProto.FLOAT16)
    found = dict(OpenedGraph(path).values({"x": X.astype(np.float16)}))
    assert {array.dtype.name for array in found.values()} == {"float16"}


def test_what_is_inside_a_branch_stays_inside(tmp_path):
    def branch(name, operator):
        output = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, None)
        node = helper.make_node(operator, ["x"], [f"{name}_out"])
        return helper.make_graph([node], name, [], [output])

    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Greater", ["top", "zero"], ["positive"]),
        helper.make_node(
            "If",
            ["positive"],
            ["y"],
            then_branch=branch("a", "Neg"),
            else_branch=branch("b", "Abs"),
        ),
    ]
    path = save(tmp_path / "model.onnx", nodes, {"zero": np.array(0, np.float32)})
    found = dict(OpenedGraph(path).values({"x": X}))
    assert list(found) == ["top", "positive", "y"]
    assert np.array_equal(found["y"], -X)


def test_what_does_not_run_is_a_run_error(perceptron):
    exposed = OpenedGraph(save(*perceptron))
    with pytest.raises(RunError, match="INVALID_ARGUMENT"):
        list(exposed.values({"x": np.zeros((2, 4), np.float32)}))
    with pytest.raises(RunError, match="KeyError"):
        list(exposed.values({}))
