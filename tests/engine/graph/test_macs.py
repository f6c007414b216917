"""Multiply-accumulates of a graph: as many as PyTorch counts, and what is not counted is said."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from precision_nets import shapes_of
from small_models import save_nodes
from torch.utils.flop_counter import FlopCounterMode

from pytest_onnxcheck.engine.graph.macs import multiply_accumulates
from pytest_onnxcheck.engine.graph.shapes import inferred
from pytest_onnxcheck.engine.inputs.cases import example


def total(path, shapes):
    graph, known, _ = inferred(path, shapes)
    counts = [count for _, count in multiply_accumulates(graph, known)]
    assert None not in counts
    return sum(counts)


@pytest.mark.parametrize("name", ["convolutional", "attention"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-dynamic", "int8-static"])
def test_multiply_accumulates_are_half_the_operations_pytorch_counts(made, name, precision):
    reference, _, _, artefact = made(name, precision)
    arrays = example(reference)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        reference.module(torch.from_numpy(arrays["x"]))
    assert total(artefact.path, shapes_of(arrays)) == counter.get_total_flops() / 2


@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_recurrences_count_every_gate_step_and_direction(made, precision):
    reference, _, _, artefact = made("tagger", precision)
    rows = 2 * 7
    lstm = 2 * 4 * 16 * (8 + 16) + 2 * 4 * 16 * (32 + 16)
    gru = 3 * 16 * (32 + 16)
    counted = total(artefact.path, shapes_of(example(reference)))
    assert counted == rows * (lstm + gru + 16 * 4)


def counted(path, shape):
    graph, known, _ = inferred(path, {"x": shape})
    return [count for _, count in multiply_accumulates(graph, known)]


def test_einsum_counts_every_combination_of_its_indices(tmp_path):
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation="bij, jk -> bik")
    path = save_nodes(tmp_path / "e.onnx", [node], {"w": np.ones((4, 5), "f4")}, ["b", 3, 4])
    assert counted(path, (2, 3, 4)) == [2 * 3 * 4 * 5]


def test_attention_counts_scores_and_values(tmp_path):
    node = helper.make_node("Attention", ["x", "x", "x"], ["y"], q_num_heads=2, kv_num_heads=2)
    path = save_nodes(tmp_path / "a.onnx", [node], {}, ["b", "t", 8], opset=23)
    assert counted(path, (3, 5, 8)) == [2 * 3 * 5 * 5 * 8]


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Einsum", ["x", "x"], ["y"], equation="...i,...i->..."),
        helper.make_node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft"),
        helper.make_node("Attention", ["x", "w"], ["y"], domain="com.microsoft"),
    ],
)
def test_what_is_not_counted_is_said_and_not_left_out(tmp_path, node):
    path = save_nodes(tmp_path / "n.onnx", [node], {"w": np.ones((4, 12), "f4")}, ["b", 4, 4])
    assert counted(path, (2, 4, 4)) == [None]


def test_what_loops_is_not_counted(tmp_path):
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["z"])],
        "then",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    path = save_nodes(tmp_path / "if.onnx", [node], {"c": np.array(True)}, [4, 4])
    assert counted(path, (4, 4)) == [None, None]


def test_a_graph_that_makes_no_sense_counts_nothing(tmp_path):
    nodes = [
        helper.make_node("Nonsense", ["x"], ["z"]),
        helper.make_node("MatMul", ["z", "w"], ["y"]),
    ]
    path = save_nodes(tmp_path / "n.onnx", nodes, {"w": np.ones((4, 2), "f4")}, ["b", 4])
    assert counted(path, (2, 4)) == [None]
