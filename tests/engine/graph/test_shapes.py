"""Shapes of an artefact's values, as far as they follow from those of its inputs."""

import onnx

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
