"""What is no artefact is turned away where it is read, and says why."""

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_onnxcheck.engine.artefacts.contents import contents
from pytest_onnxcheck.engine.artefacts.reading import read_model
from pytest_onnxcheck.engine.guess.files import precision_of
from pytest_onnxcheck.errors import ExportError

TEXT = """<ir_version: 9, opset_import: ["" : 17]> net
(float[n, 4] x) => (float[n, 4] y) {
    t = Constant <value = bool {1}> ()
    a = Add(x, w)
    y = If (t) <
        then_branch = g1 () => (float[n, 4] p) { p = Relu(a) },
        else_branch = g2 () => (float[n, 4] q) { q = Neg(a) }
    >
}"""


def model():
    made = onnx.parser.parse_model(TEXT)
    made.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [4], [1.0] * 4))
    return made


def an_undefined_attribute(made):
    made.graph.node[0].attribute[0].type = onnx.AttributeProto.UNDEFINED


def a_circle(made):
    made.graph.node[1].input[0] = "y"


def a_circle_through_a_branch(made):
    made.graph.node[1].input[0] = "b"
    made.graph.node.append(helper.make_node("Neg", ["y"], ["b"]))


def a_node_that_reads_itself(made):
    made.graph.node[1].input[0] = "a"


def another_element_type(made):
    made.graph.input[0].type.tensor_type.elem_type = 99


def another_weight_type(made):
    made.graph.initializer[0].data_type = 99


def a_weight_without_type(made):
    made.graph.initializer[0].data_type = 0


def a_negative_size(made):
    made.graph.initializer[0].dims[0] = -4


def a_weight_of_a_terabyte(made):
    made.graph.initializer[0].dims[0] = 2**40


def a_weight_of_a_terabyte_in_raw_data(made):
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(numpy_helper.to_array(w(made)), "w"))
    made.graph.initializer[0].dims[0] = 2**40


def a_constant_of_a_terabyte(made):
    made.graph.node[0].attribute[0].t.dims.extend([2**20, 2**20])


def two_outputs_of_one_name(made):
    made.graph.output.append(made.graph.output[0])


def a_constant_without_output(made):
    del made.graph.node[0].output[:]


def w(made):
    return made.graph.initializer[0]


def a_sum_of_one(made):
    del made.graph.node[1].input[1:]


def a_function(made, body, *inputs):
    """The first `Add` is a call of a function."""
    head = '<domain: "own", opset_import: ["" : 17, "own" : 1]>'
    text = f"{head} twice ({', '.join(inputs)}) => (b) {{ {body} }}"
    made.functions.append(onnx.parser.parse_function(text))
    made.opset_import.append(helper.make_opsetid("own", 1))
    made.graph.node[1].op_type, made.graph.node[1].domain = "twice", "own"


def a_function_with_too_few_inputs(made):
    a_function(made, "b = Neg(a)", "a")


def a_function_that_calls_itself(made):
    a_function(made, "b = own.twice(a, c)", "a", "c")


FAULTS = {
    an_undefined_attribute: "attribute 'value' of node 't' has no type",
    a_circle: "nodes wait for one another in a circle: 'a', 'y'",
    a_circle_through_a_branch: "nodes wait for one another in a circle: 'a', 'y', 'b'",
    a_node_that_reads_itself: "nodes wait for one another in a circle: 'a', 'y'",
    another_element_type: "the element type of 'x' is 99, which ONNX does not have",
    another_weight_type: "the element type of tensor 'w' is 99, which ONNX does not have",
    a_weight_without_type: "the element type of tensor 'w' is 0, which ONNX does not have",
    a_negative_size: "tensor 'w' has the shape [-4]",
    a_weight_of_a_terabyte: "tensor 'w' has the shape [1099511627776], and data for at most 64 ",
    a_weight_of_a_terabyte_in_raw_data: "tensor 'w' has the shape [1099511627776], and data for 4 ",
    a_constant_of_a_terabyte: "tensor '' has the shape [1048576, 1048576], and data for at most ",
    two_outputs_of_one_name: "2 outputs are called 'y'",
    a_constant_without_output: "node 'Constant' has 0 outputs, Constant has 1",
    a_function_with_too_few_inputs: "its functions cannot be inlined: Number of actual parameters",
    a_function_that_calls_itself: "its functions cannot be inlined: Cycle detected in model-local",
    a_sum_of_one: "node 'a' has 1 inputs, Add has 2",
}


def write(path, made):
    path.write_bytes(made.SerializeToString())
    return path


@pytest.mark.parametrize("change", FAULTS, ids=lambda change: change.__name__)
def test_a_graph_that_means_nothing_is_refused(tmp_path, change):
    made = model()
    change(made)
    path = write(tmp_path / "net.onnx", made)
    for read in (read_model, contents, precision_of):
        with pytest.raises(ExportError) as caught:
            read(path)
        assert f"{path}: not a valid ONNX file: {FAULTS[change]}" in str(caught.value)


def test_names_that_are_no_text_are_refused(tmp_path):
    made = model()
    made.graph.node[1].name = "NAME"
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString().replace(b"NAME", b"\xff\xfe\xff\xfe"))
    with pytest.raises(ExportError, match=r"name b'\\xff\\xfe\\xff\\xfe' is no UTF-8"):
        read_model(path)


def test_a_data_file_whose_name_is_no_text_is_refused(tmp_path):
    made = model()
    made.graph.initializer[0].data_location = TensorProto.EXTERNAL
    made.graph.initializer[0].external_data.add(key="location", value="NAME")
    path = tmp_path / "net.onnx"
    path.write_bytes(made.SerializeToString().replace(b"NAME", b"\xff\xfe\xff\xfe"))
    with pytest.raises(ExportError, match="is no UTF-8"):
        read_model(path)


def test_a_name_of_any_length_is_told_in_short(tmp_path):
    made = model()
    w(made).name, w(made).data_type = "w" * 10_000, 99
    with pytest.raises(ExportError) as caught:
        read_model(write(tmp_path / "net.onnx", made))
    assert len(str(caught.value)) < 1000


def test_what_is_only_unusual_is_read(tmp_path):
    made = model()
    nodes = list(reversed(made.graph.node))  # out of order, and no circle
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    made.graph.node[0].attribute[0].g.node[0].output[0] = "y"  # as the node's own
    made.graph.node[0].attribute[0].g.output[0].name = "y"
    made.graph.initializer.append(helper.make_tensor("none", TensorProto.FLOAT, [0, 3], []))
    made.graph.initializer.append(helper.make_tensor("one", TensorProto.INT4, [3], [1, 2, 3]))
    made.graph.value_info.add(name="typeless")
    path = write(tmp_path / "net.onnx", made)
    assert read_model(path) == made
    assert contents(path).operators == {"If": 1, "Relu": 1, "Neg": 1, "Add": 1, "Constant": 1}
