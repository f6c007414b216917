"""What is read from a graph: nodes left in training mode, random ones, specs without a shape."""

import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_onnxcheck.engine.checks.structure import measure_model
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.judge import structure
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.verdict import Grade

NET = """
import torch


class Net(torch.nn.Module):
    def forward(self, x):
        return x * 2
"""

MANIFEST = """
schema = 1
[models.net]
factory = "net.py:Net"
[models.net.inputs.x]
shape = [1, 4]
[models.net.outputs.y]
shape = [1, 4]
"""


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Measures a graph from `x` to `y` made of these nodes, beside a real model."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")
    (tmp_path / "models.toml").write_text(MANIFEST, encoding="utf-8")
    model = load_manifest(tmp_path / "models.toml").models["net"]
    reference = load_reference(model)

    def run(*nodes, constants=(), outputs=None):
        ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy"]
        made = helper.make_graph(
            [helper.make_node(*node[:3], name=node[0].lower(), **node[3]) for node in nodes],
            "net",
            ends[:1],
            outputs or ends[1:],
            [numpy_helper.from_array(array, name) for name, array in dict(constants).items()],
        )
        opset = [helper.make_opsetid("", 20)]
        return measure_model(
            helper.make_model(made, opset_imports=opset), reference, model.variants[0]
        )

    return run


def reasons(measured):
    return [f.text for f in structure(measured).findings if f.grade is Grade.FAIL]


def dropout(mode):
    return ("Dropout", ["x", "ratio", mode], ["y"], {})


RATIO = {"ratio": np.float32(0.5)}


@pytest.mark.parametrize("mode", [True, False])
def test_dropout_in_training_mode_by_an_initializer(read, mode):
    measured = read(dropout("mode"), constants={**RATIO, "mode": np.array(mode)})
    assert measured.training == (("Dropout (dropout)",) if mode else ())
    assert any("training" in text for text in reasons(measured)) is mode


@pytest.mark.parametrize("mode", [True, False])
def test_dropout_in_training_mode_by_a_constant_node(read, mode):
    value = numpy_helper.from_array(np.array(mode))
    constant = ("Constant", [], ["mode"], {"value": value})
    measured = read(constant, dropout("mode"), constants=RATIO)
    assert measured.training == (("Dropout (dropout)",) if mode else ())


def test_dropout_whose_mode_is_computed_counts_as_training(read):
    computed = ("IsNaN", ["x"], ["mode"], {})
    assert read(computed, dropout("mode"), constants=RATIO).training == ("Dropout (dropout)",)


def test_dropout_without_a_mode_does_nothing(read):
    assert read(("Dropout", ["x"], ["y"], {})).training == ()


PARTS = {name: np.ones(4, "float32") for name in ("scale", "bias", "mean", "variance")}
NORM = ("BatchNormalization", ["x", *PARTS])


@pytest.mark.parametrize(
    ("outputs", "options", "training"),
    [
        (["y"], {}, False),
        (["y"], {"training_mode": 0}, False),
        (["y", "", ""], {}, False),
        (["y"], {"training_mode": 1}, True),
        (["y", "running_mean", "running_var"], {}, True),
    ],
)
def test_batch_normalization_in_training_mode(read, outputs, options, training):
    measured = read((*NORM, outputs, options), constants=PARTS)
    assert measured.training == (("BatchNormalization (batchnormalization)",) if training else ())


def test_random_nodes_are_named(read):
    noise = ("RandomNormalLike", ["x"], ["y"], {})
    measured = read(noise)
    assert measured.random == ("RandomNormalLike (randomnormallike)",)
    assert any("draws random numbers" in text for text in reasons(measured))


def test_an_output_that_is_no_tensor_is_said_to_be_what_it_is(read):
    kind = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    measured = read(("SequenceConstruct", ["x"], ["y"], {}), outputs=[kind])
    assert measured.outputs[0].dtype == "sequence_type"
    assert any("sequence_type" in text for text in reasons(measured))


def test_an_output_without_a_shape_has_none(read):
    free = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    measured = read(("Relu", ["x"], ["y"], {}), outputs=[free])
    assert measured.outputs[0].shape is None
