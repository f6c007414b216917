"""Where bfloat16 is in an artefact, and where it surely is not."""

import numpy as np
import onnx
import pytest
import torch
from small_models import save
from torch import nn

from pytest_onnxcheck.engine.graph.bfloat16 import find_bfloat16


class OneLayer(nn.Module):
    """The second of three layers computes in bfloat16."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
        self.middle = nn.Linear(16, 16).bfloat16()

    def forward(self, x):
        return self.last(self.middle(self.first(x).bfloat16()).float())


@pytest.mark.parametrize(
    ("dynamo", "text"),
    [
        (False, "node '/middle/Gemm' (Gemm, weights middle.weight, middle.bias)"),
        (
            True,
            "node 'node_linear_1' (Gemm, layer 'middle', weights middle.weight, middle.bias)",
        ),
    ],
)
def test_the_layer_of_an_exported_module_is_named(tmp_path, dynamo, text):
    path = tmp_path / "m.onnx"
    net, x = OneLayer().eval(), torch.zeros(2, 8)
    torch.onnx.export(net, (x,), str(path), dynamo=dynamo, opset_version=20, verbose=False)
    found = find_bfloat16(path)
    assert list(found.held.values()) == [text]
    assert len(found.free) == 2  # the other two layers; the casts are neither


def test_types_are_inferred_and_nodes_without_names_are_called_by_their_output(tmp_path):
    text = """(float[n] x) => (float[n] y, float[n] z) {
        wide = Cast <to = 16> (x)
        h = Neg (wide)
        y = Cast <to = 1> (h)
        z = Neg (x)
    }"""
    found = find_bfloat16(save(tmp_path / "m.onnx", text))
    assert found.held == {"h": "node 'h' (Neg)"}
    assert found.free == {"z"}


def test_casts_are_named_where_there_is_nothing_else(tmp_path):
    text = "(float[n] x) => (float[n] y) { w = Cast <to = 16> (x)  y = Cast <to = 1> (w) }"
    assert set(find_bfloat16(save(tmp_path / "m.onnx", text)).held) == {"w", "y"}


def test_what_nothing_is_known_of_is_neither(tmp_path):
    graph = onnx.parser.parse_graph(
        "g (float[n] x) => (float[n] y) { h = ours.Op (x) y = Neg (h) }"
    )
    opsets = [onnx.helper.make_opsetid("", 20), onnx.helper.make_opsetid("ours", 1)]
    path = tmp_path / "m.onnx"
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    found = find_bfloat16(path)
    assert (found.held, found.free) == ({}, set())


def test_a_float_artefact_has_none(tmp_path):
    text = "(float[2,3] x) => (float[2,3] y) { [add] y = Add (x, w) }"
    found = find_bfloat16(save(tmp_path / "m.onnx", text, w=np.ones(3, "float32")))
    assert (found.held, found.free) == ({}, {"add"})
