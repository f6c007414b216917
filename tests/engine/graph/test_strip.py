"""What only says where a graph comes from is taken out, wherever it stands, and nothing else."""

from __future__ import annotations

from onnx import TensorProto, helper

from pytest_onnxcheck.engine.graph.strip import found_paths, strip

TRACE = 'File "/home/someone/nets.py", line 7, in forward'


def noted(message):
    message.doc_string = TRACE
    if hasattr(message, "metadata_props"):
        message.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=TRACE)
    return message


def model_with_notes():
    """Notes on the model, its graphs, nodes, values, weights, attributes and functions."""
    inner = noted(
        helper.make_graph(
            [noted(helper.make_node("Identity", ["w"], ["inner_y"]))],
            "branch",
            [],
            [helper.make_tensor_value_info("inner_y", TensorProto.FLOAT, [1])],
        )
    )
    branch = helper.make_node("If", ["c"], ["z"], then_branch=inner, else_branch=inner)
    noted(branch.attribute[0])
    weight = noted(helper.make_tensor("w", TensorProto.FLOAT, [1], [2.0]))
    function = noted(
        helper.make_function(
            "own", "Same", ["a"], ["b"], [noted(helper.make_node("Identity", ["a"], ["b"]))], []
        )
    )
    graph = noted(
        helper.make_graph(
            [noted(branch), noted(helper.make_node("Same", ["z"], ["y"], domain="own"))],
            "net",
            [noted(helper.make_tensor_value_info("c", TensorProto.BOOL, []))],
            [noted(helper.make_tensor_value_info("y", TensorProto.FLOAT, [1]))],
            [weight],
        )
    )
    model = helper.make_model(graph, functions=[function], producer_name="pytorch")
    model.doc_string = TRACE
    model.metadata_props.add(key="labels", value="cat, dog")
    return model


def test_nothing_is_left_of_notes_anywhere():
    model = model_with_notes()
    assert found_paths(model.SerializeToString(), ["/home/someone"])
    strip(model)
    assert found_paths(model.SerializeToString(), ["/home/someone"]) == ()
    assert b"stack_trace" not in model.SerializeToString()


def test_it_tells_what_was_taken_out():
    bare = helper.make_model(helper.make_graph([], "net", [], []))
    bare.doc_string = TRACE
    bare.graph.metadata_props.add(key="a", value="b")
    assert strip(bare) == {"doc_string": 1, "metadata_props": 1}
    assert strip(bare) == {"doc_string": 0, "metadata_props": 0}


def test_what_the_model_computes_and_tells_the_application_stays():
    model, bare = model_with_notes(), model_with_notes()
    strip(model)
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("labels", "cat, dog")]
    assert model.producer_name == "pytorch"
    assert [node.op_type for node in model.graph.node] == ["If", "Same"]
    assert model.graph.initializer[0].float_data == bare.graph.initializer[0].float_data
    assert [function.name for function in model.functions] == ["Same"]


def test_a_path_is_told_with_the_text_that_it_begins():
    content = b"\x12\x04name\x00/home/someone/nets.py:7\x00rest"
    assert found_paths(content, ["/home/someone/x", "/home/someone", "/opt/app"]) == (
        "/home/someone/nets.py:7",
    )
