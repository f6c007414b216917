"""What a graph computes of sizes alone is made constant, and nothing else."""

import onnx
import onnx.reference

from pytest_onnxcheck.engine.graph.folding import fold_sizes
from pytest_onnxcheck.engine.graph.shapes import inferred

POSITIONS = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch,time] x) => (float[a,b] y) {
    all = Shape(x)
    last = Shape <start = -1> (x)
    zero = Constant <value = int64 {0}> ()
    one = Constant <value = int64 {1}> ()
    length = Squeeze(last)
    positions = Range(zero, length, one)
    table = ConstantOfShape <value = float[1] {0.5}> (all)
    part = Gather <axis = 1> (table, positions)
    y = Gather <axis = 1> (x, positions)
}
"""
LEFT = """
<ir_version: 10, opset_import: ["" : 20, "com.microsoft" : 1]>
net (float[2,3] x, float[batch] z) => (float[a] y) {
    two = Constant <value = float[2] {1.0, 2.0}> ()
    chance = RandomNormalLike(two)
    other = com.microsoft.Gelu(two)
    many = Constant <value = int64[1] {1000}> ()
    large = ConstantOfShape(many)
    unknown = Shape(z)
    wrong = MatMul(two, many)
    given = Relu(x)
    branch = Constant <value = bool {1}> ()
    y = If (branch) <
        then_branch = then () => (float[2] inside) { inside = Relu(two) },
        else_branch = otherwise () => (float[2] outside) { outside = Neg(two) }
    >
}
"""


def test_a_range_over_a_size_has_a_shape(tmp_path):
    onnx.save(onnx.parser.parse_model(POSITIONS), tmp_path / "net.onnx")
    _, shapes, _ = inferred(tmp_path / "net.onnx", {"x": (2, 7)})
    assert shapes["y"] == (2, 7)


def test_what_is_folded_is_what_the_nodes_give():
    model = onnx.parser.parse_model(POSITIONS)
    fold_sizes(model, {"x": (2, 7)}, 1024)
    assert [node.output[0] for node in model.graph.node] == ["y"]
    held = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    assert held["positions"].tolist() == list(range(7))
    assert held["positions"].dtype == held["all"].dtype == "int64"
    assert held["part"].tolist() == [[0.5] * 7] * 2


def test_what_is_random_large_unknown_wrong_or_not_standard_stays():
    model = onnx.parser.parse_model(LEFT)
    fold_sizes(model, {"x": (2, 3)}, 1024)
    left = [node.output[0] for node in model.graph.node]
    assert left == ["chance", "other", "large", "unknown", "wrong", "given", "y"]
