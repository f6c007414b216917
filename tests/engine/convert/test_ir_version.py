"""A file's IR version is lowered for an older ONNX Runtime, if nothing in it needs a newer one."""

import numpy as np
import onnx
import onnxruntime
import pytest

from pytest_onnxcheck.engine.convert.ir_version import lower_ir_version, needed_ir_version


def model(nodes="y = Relu (x)", *, opset=17, takes="float[2] x", gives="float[2] y"):
    text = (
        f'<ir_version: 10, opset_import: ["" : {opset}]> net ({takes}) => ({gives}) {{ {nodes} }}'
    )
    return onnx.parser.parse_model(text)


def test_it_is_lowered_to_what_the_release_reads(tmp_path):
    path = tmp_path / "net.onnx"
    net = model()
    note = net.graph.node[0].metadata_props.add()
    note.key, note.value = "trace", "net.py, line 3"
    onnx.save(net, path)
    assert lower_ir_version(path, "1.17") == 10
    lowered = onnx.load(path)
    assert lowered.ir_version == 9
    assert lowered.graph.node[0].metadata_props[0].value == "net.py, line 3"
    onnx.checker.check_model(lowered, full_check=True)
    onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert lower_ir_version(path, "1.17") is None  # it is read as it is


def test_external_data_stays_where_it_is(tmp_path):
    net = model("y = Add (x, w)")
    net.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, np.float32), "w"))
    path = tmp_path / "net.onnx"
    data = {"save_as_external_data": True, "location": "net.data", "size_threshold": 0}
    onnx.save(net, path, **data)
    assert lower_ir_version(path, "1.16") == 10
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.run(None, {"x": np.ones(2, np.float32)})[0].tolist() == [2.0, 2.0]


def test_it_stays_where_a_type_needs_it(tmp_path):
    path = tmp_path / "net.onnx"
    nodes = "a = Cast <to = 22> (x)  y = Cast <to = 1> (a)"
    onnx.save(model(nodes, opset=21), path)
    before = path.read_bytes()
    assert lower_ir_version(path, "1.17") is None
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("net", "needed"),
    [
        (model(opset=17), 8),
        (model(opset=20), 9),
        (model("y = Cast <to = 22> (x)", opset=17, gives="int4[2] y"), 10),
        (model("y = Identity (x)", takes="float8e4m3fn[2] x", gives="float8e4m3fn[2] y"), 9),
    ],
)
def test_what_is_needed_follows_from_the_contents(net, needed):
    assert needed_ir_version(net) == needed


def test_opsets_that_nothing_uses_are_left_out(tmp_path):
    path = tmp_path / "net.onnx"
    net = model()
    net.opset_import.extend([onnx.helper.make_opsetid("ai.onnx.ml", 5)])
    onnx.save(net, path)
    lower_ir_version(path, "1.17")
    assert [entry.domain for entry in onnx.load(path).opset_import] == [""]


def test_opsets_that_a_node_uses_stay(tmp_path):
    path = tmp_path / "net.onnx"
    net = model()
    net.graph.node[0].op_type, net.graph.node[0].domain = "Binarizer", "ai.onnx.ml"
    net.opset_import.extend([onnx.helper.make_opsetid("ai.onnx.ml", 5)])
    onnx.save(net, path)
    lower_ir_version(path, "1.17")
    assert [entry.version for entry in onnx.load(path).opset_import] == [17, 5]
