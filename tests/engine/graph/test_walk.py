"""What walks a graph."""

import onnx

from pytest_onnxcheck.engine.graph.walk import reads

GRAPH = """
<ir_version: 9, opset_import: ["" : 20]>
g (bool c, float[n] x, float[n] y, float[n] z) => (float[n] r) {
    r = If (c) <
        then_branch = t () => (float[n] a) { a = Add (x, x) },
        else_branch = e () => (z) { s = Shape (y) }
    >
}
"""


def test_a_node_reads_what_the_graphs_inside_it_read():
    (node,) = onnx.parser.parse_model(GRAPH).graph.node
    assert reads(node) == ["c", "x", "a", "y", "z"]


def test_operators_can_be_left_out():
    (node,) = onnx.parser.parse_model(GRAPH).graph.node
    assert reads(node, but={"Shape"}) == ["c", "x", "a", "z"]
    assert reads(node, but={"If"}) == ["x", "a", "y", "z"]
