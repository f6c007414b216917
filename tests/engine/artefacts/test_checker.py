"""A file is checked as it lies on disk; nodes out of order are told, and hide nothing else."""

import onnx
import pytest
from onnx import TensorProto, helper

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.checker import check_file


@pytest.fixture
def check(tmp_path):
    """Saves a graph of one input of 4 and one output, and checks the file."""

    def run(*nodes, size=4):
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size])],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        onnx.save(model, tmp_path / "net.onnx")
        return check_file(Artefact.given(tmp_path / "net.onnx"))

    return run


RELU, NEG = helper.make_node("Relu", ["x"], ["h"]), helper.make_node("Neg", ["h"], ["y"])


def test_a_valid_file_has_no_errors(check, tmp_path):
    found = check(RELU, NEG)
    assert (found.checker_error, found.inference_error, found.unsorted) == (None, None, False)
    assert found.path == str(tmp_path / "net.onnx")
    assert found.size_bytes == (tmp_path / "net.onnx").stat().st_size


def test_nodes_out_of_order_are_told_and_the_rest_is_checked(check):
    found = check(NEG, RELU)
    assert (found.checker_error, found.inference_error, found.unsorted) == (None, None, True)
    found = check(NEG, RELU, size=5)
    assert found.unsorted
    assert "inference" in found.inference_error.lower()


def test_an_unknown_operator_is_the_checkers_error_in_one_line(check):
    found = check(helper.make_node("NoSuch", ["x"], ["y"]))
    assert "NoSuch" in found.checker_error
    assert "\n" not in found.checker_error
    assert found.inference_error is None


def test_shapes_that_contradict_are_the_inferences_error(check):
    found = check(RELU, NEG, size=5)
    assert found.checker_error is None
    assert "\n" not in found.inference_error
