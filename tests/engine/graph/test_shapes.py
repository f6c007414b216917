"""Shapes of an artefact's values, as far as they follow from those of its inputs."""

import onnx
import onnxscript.optimizer
import pytest

from pytest_onnxcheck.engine.graph.shapes import inferred

LOGARITHM = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch,8] x) => (float[rows,columns] y) {
    zero = Constant <value = float[2] {0.0, 0.0}> ()
    least = Log(zero)
    untaken = Cast <to = 7> (least)
    taken = Constant <value = int64[2] {4, 4}> ()
    never = Constant <value = bool[1] {0}> ()
    sizes = Where(never, untaken, taken)
    y = Reshape(x, sizes)
}
"""


def test_what_overflows_while_it_is_folded_warns_of_nothing(tmp_path):
    """Warnings are errors here, as in many a project: a folding that warned would be given up."""
    onnx.save(onnx.parser.parse_model(LOGARITHM), tmp_path / "net.onnx")
    _, shapes, _ = inferred(tmp_path / "net.onnx", {"x": (2, 8)})
    assert shapes["y"] == (4, 4)


BRANCHES = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch,8] x) => (float[batch,8] y) {
    yes = Constant <value = bool {1}> ()
    one = Relu(x)
    y = If (yes) <
        then_branch = then () => (float[2,8] inside) { inside = Relu(one) },
        else_branch = otherwise () => (float[2,8] other) { other = Neg(one) }
    >
}
"""
PLAIN = """
<ir_version: 10, opset_import: ["" : 20]>
net (float[batch,8] x) => (float[batch,8] y) {
    one = Relu(x)
    y = Neg(one)
}
"""


@pytest.mark.parametrize(("text", "folded"), [(PLAIN, 0), (BRANCHES, 1), (LOGARITHM, 0)])
def test_the_optimizer_folds_where_shapes_are_not_known_without(
    tmp_path, monkeypatch, text, folded
):
    calls, fold = [], onnxscript.optimizer.fold_constants
    counted = lambda *args: (calls.append(args), fold(*args))  # noqa: E731
    monkeypatch.setattr(onnxscript.optimizer, "fold_constants", counted)
    onnx.save(onnx.parser.parse_model(text), tmp_path / "net.onnx")
    _, shapes, _ = inferred(tmp_path / "net.onnx", {"x": (2, 8)})
    assert (len(calls) > 0) == folded
    assert len(shapes["y"]) == 2
