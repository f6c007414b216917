"""Modules, lines and operators, as exporters write them into a node."""

from pathlib import Path

import onnx
import pytest

import pytest_onnxcheck
from pytest_onnxcheck.engine.diagnosis.provenance import (
    module_of,
    operator_of,
    source_of,
    users_file,
)

MODULES = ["", "blocks", "blocks.0", "blocks.0.norm", "head"]

STACK = """  File "/home/me/nets.py", line 7, in forward
    return self.head(x)
  File "/usr/lib/python3/site-packages/torch/nn/modules/linear.py", line 125, in forward
    return F.linear(input, self.weight, self.bias)
"""


def node(name="", **metadata):
    made = onnx.helper.make_node("Relu", ["x"], ["y"], name=name)
    for key, value in metadata.items():
        made.metadata_props.add(key=f"pkg.torch.onnx.{key}", value=value)
    return made


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("/Relu", ""),
        ("/head/Relu", "head"),
        ("/blocks.0/norm/Relu", "blocks.0.norm"),
        ("/blocks.0/norm_1/Relu", "blocks.0.norm"),  # called again
        ("/blocks.0/unknown/Relu", "blocks.0"),
        ("node7", None),
    ],
)
def test_the_module_in_a_torchscript_name(name, module):
    assert module_of(node(name), MODULES) == module


@pytest.mark.parametrize(
    ("scopes", "module"),
    [
        ("['', 'head', 'linear']", "head"),
        ("['', 'blocks.0', 'gone', 'relu']", "blocks.0"),
        ("['gone', 'relu']", None),
        ("no list", None),
    ],
)
def test_the_module_in_the_scopes_of_dynamo(scopes, module):
    assert module_of(node("/head/Relu", name_scopes=scopes), MODULES) == module


def test_the_users_innermost_line_and_the_operator_in_dynamos_notes():
    graph = "%linear : [num_users=1] = call_function[target=torch.ops.aten.linear.default](args)"
    noted = node(stack_trace=STACK, fx_node=graph)
    assert source_of(noted, Path("/work")) == "/home/me/nets.py:7"
    here = node(stack_trace=STACK.replace("/home/me/", ""), fx_node=graph)
    assert source_of(here, Path("/work")) == "/work/nets.py:7"
    assert operator_of(noted) == "aten.linear"
    assert (source_of(node(), Path("/work")), operator_of(node())) == ("", "")


def test_files_of_libraries_and_ours_are_not_the_users():
    assert users_file("/home/me/nets.py")
    assert not users_file("<eval_with_key>.1")
    assert not users_file(pytest_onnxcheck.__file__)
    assert not users_file("/usr/lib/python3/dist-packages/torch/nn/functional.py")
