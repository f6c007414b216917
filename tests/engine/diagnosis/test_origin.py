"""Origins: an error is named where it begins, and what else is said of a node's inputs is true."""

import math

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.diagnosis.localise import localise
from pytest_onnxcheck.engine.diagnosis.recorder import trace
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.manifest import load_manifest

NETS = """
import torch
from torch import nn


class Spectral(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, dtype=torch.complex64))
        self.mix = nn.Linear(16, 16)

    def forward(self, x):
        turned = torch.fft.fft(x, dim=-1) * self.weight
        return self.mix(torch.fft.ifft(turned.conj(), dim=-1).real)


class Folded(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv1d(4, 4, 3, padding=1), nn.BatchNorm1d(4)
        self.mix, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
        with torch.no_grad():
            for held in (self.bn.weight, self.bn.bias, self.bn.running_mean):
                held.normal_()

    def forward(self, x):
        return self.last(torch.tanh(self.mix(torch.tanh(self.bn(self.conv(x))))))
"""
MODEL = """
[models.{name}]
factory = "nets_origin.py:{factory}"
exporters = ["{exporter}"]
opsets = [{opset}]
dims = {{ batch = [2, 3] }}
inputs.x.shape = ["batch", 4, {size}]
outputs.y.shape = ["batch", 4, {size}]
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """By model its oracle and its artefact."""
    root = tmp_path_factory.mktemp("nets")
    (root / "nets_origin.py").write_text(NETS, encoding="utf-8")
    text = MODEL.format(name="spectral", factory="Spectral", exporter="dynamo", opset=20, size=16)
    text += MODEL.format(name="folded", factory="Folded", exporter="torchscript", opset=17, size=8)
    (root / "models.toml").write_text(f"schema = 1\n{text}", encoding="utf-8")
    builds = Builds(root / "artefacts")
    made = {}
    for name, model in load_manifest(root / "models.toml").models.items():
        reference = builds.reference(model)
        made[name] = Oracle(reference), builds.artefact(reference, model.variants[0]).path
    return made


@pytest.fixture
def located(nets, tmp_path):
    """Localises what is left of a model after its ONNX file was changed."""

    def found(name, change):
        oracle, path = nets[name]
        model = onnx.load(path)
        change(model.graph)
        onnx.save(model, tmp_path / "model.onnx")
        return localise(tmp_path / "model.onnx", oracle, oracle.declared[1], safety=8)

    return found


def scaled_behind(graph, operator, by, index=0):
    """Multiplies what a node gives; the new node's name is `scaled`."""
    node = [node for node in graph.node if node.op_type == operator][index]
    (value,) = node.output
    node.output[0] = f"{value}_before"
    graph.initializer.append(numpy_helper.from_array(np.float32(by), "by"))
    position = list(graph.node).index(node) + 1
    graph.node.insert(position, helper.make_node("Mul", [node.output[0], "by"], [value], "scaled"))


def changed(graph, name, change):
    (tensor,) = (tensor for tensor in graph.initializer if tensor.name == name)
    array = change(numpy_helper.to_array(tensor).copy()).astype(np.float32)
    tensor.CopyFrom(numpy_helper.from_array(array, name))


def constant_of(graph, operator, position, index=0):
    return [node for node in graph.node if node.op_type == operator][index].input[position]


def test_complex_values_have_floors_and_both_parts(nets):
    oracle, _ = nets["spectral"]
    records = trace(oracle, oracle.declared[1]).records
    found = {record.operator: record for record in records}
    for operator in ("aten.fft_fft", "aten.mul", "aten.fft_ifft"):
        record = found[operator]
        assert record.value.size == record.sketch.size == 2 * math.prod(record.shape)
        assert 0 < record.floor[1] < record.floor[0] < 1e-4


@pytest.mark.parametrize("name", ["spectral", "folded"])
def test_nothing_is_found_in_a_right_artefact(located, name):
    assert located(name, lambda graph: None) is None


@pytest.mark.parametrize(
    ("by", "index", "operator"),
    [(1 + 3e-6, 0, "aten.fft_fft"), (1 + 3e-6, 1, "aten.fft_ifft"), (1.001, 0, "aten.mul")],
)
def test_a_wrong_complex_value_is_named_and_not_what_is_made_of_it(located, by, index, operator):
    found = located("spectral", lambda graph: scaled_behind(graph, "DFT", by, index))
    assert (found.node, found.torch_operator) == ("scaled", operator)
    assert found.ratio > 8
    assert found.inputs_inside


def test_a_wrong_part_of_a_product_of_complex_numbers_is_put_to_the_product(located):
    def change(graph):
        changed(graph, constant_of(graph, "Mul", 1), lambda array: array * 1.01)

    found = located("spectral", change)
    assert (found.operator, found.torch_operator) == ("Mul", "aten.mul")
    assert found.ratio > 1000
    assert "not the model's: folded by the exporter, or wrong" in found.note


def test_a_later_error_in_the_margin_is_not_put_to_the_complex_values_before_it(located):
    found = located("spectral", lambda graph: scaled_behind(graph, "Add", 1 + 6e-6, -1))
    assert found.node == "scaled"
    assert found.module == "mix"
    assert found.ratio > 8


def test_a_wrong_bias_is_an_input_that_is_not_inside_its_floor(located):
    found = located("folded", lambda graph: changed(graph, "last.bias", lambda a: a + 0.1))
    assert (found.module, found.operator) == ("last", "Add")
    assert not found.inputs_inside
    assert "its constant 'last.bias' is not the model's (up to 0.1 off)" in found.note
    assert "which it reads, could not be compared" in found.note  # the product without the bias


def test_a_wrong_weight_under_another_name_is_no_parameter(located):
    def change(graph):
        changed(graph, constant_of(graph, "MatMul", 1, 1), lambda array: array * 1.01)

    found = located("folded", change)
    assert (found.module, found.operator) == ("last", "MatMul")
    assert not found.inputs_inside
    assert "not the model's: folded by the exporter, or wrong" in found.note


def test_a_wrong_bias_of_what_was_folded_is_measured_against_what_it_was_folded_to(located):
    def change(graph):
        changed(graph, constant_of(graph, "Conv", 2), lambda array: array + 1e-4)

    found = located("folded", change)
    assert (found.operator, found.module) == ("Conv", "conv")
    assert 100 < found.ratio < 1e4  # from the batch norm's value; from the convolution's it is 1e6
    assert not found.inputs_inside
    assert "folded by the exporter, or wrong" in found.note


def test_a_wrong_operator_reads_what_is_inside(located):
    def change(graph):
        [node for node in graph.node if node.op_type == "Tanh"][1].op_type = "Softsign"

    found = located("folded", change)
    assert (found.operator, found.torch_operator) == ("Softsign", "aten.tanh")
    assert found.inputs_inside
    assert found.note == ""
