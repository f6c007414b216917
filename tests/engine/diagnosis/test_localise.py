"""Localisation: the node, module and line where an artefact goes wrong; layers that int8 hurts."""

import ast
import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from helpers import line_of
from onnx import helper, numpy_helper
from packaging.version import Version

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.diagnosis.localise import localise
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.manifest import load_manifest

ROOT = Path(__file__).parents[3]

NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(12, 12)
        self.second = nn.Linear(12, 12)

    def forward(self, x):
        h = torch.tanh(self.first(x))
        turned = h.unflatten(1, (3, 4)).transpose(1, 2)
        return torch.sigmoid(self.second(turned.flatten(1))), h


class Float32Only(Net):
    def forward(self, x):
        return tuple(y.type("torch.FloatTensor") for y in super().forward(x))
"""
MODEL = """
[models.{name}]
factory = "nets_localise.py:{factory}"
exporters = {exporters}
dims = {{ batch = [2, 3] }}
[models.{name}.inputs.x]
shape = ["batch", 12]
[models.{name}.outputs.y]
shape = ["batch", 12]
[models.{name}.outputs.h]
shape = ["batch", 12]
"""


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """By model its oracle, and its artefacts by exporter."""
    root = tmp_path_factory.mktemp("nets")
    (root / "nets_localise.py").write_text(NETS, encoding="utf-8")
    net = MODEL.format(name="net", factory="Net", exporters=["torchscript", "dynamo"])
    narrow = MODEL.format(name="narrow", factory="Float32Only", exporters=["torchscript"])
    (root / "models.toml").write_text(f"schema = 1\n{net}{narrow}", encoding="utf-8")
    builds = Builds(root / "artefacts")
    made = {}
    for name, model in load_manifest(root / "models.toml").models.items():
        reference = builds.reference(model)
        paths = {v.exporter: builds.artefact(reference, v).path for v in model.variants}
        made[name] = Oracle(reference), paths
    return made


@pytest.fixture(params=["torchscript", "dynamo"])
def net(nets, request, tmp_path):
    """Localises what is left of the model after its ONNX file was changed."""
    oracle, paths = nets["net"]

    def found(change, case=1):
        model = onnx.load(paths[request.param])
        change(model.graph)
        onnx.save(model, tmp_path / "model.onnx")
        return localise(tmp_path / "model.onnx", oracle, oracle.declared[case], safety=8)

    return found


def by_operator(graph, operator, index=0):
    return [node for node in graph.node if node.op_type == operator][index]


# single faults


def test_nothing_is_found_in_a_right_artefact(net):
    assert net(lambda graph: None) is None


def test_a_replaced_operator_is_found_with_its_line(net):
    def change(graph):
        by_operator(graph, "Tanh").op_type = "Softsign"

    found = net(change)
    assert (found.operator, found.torch_operator, found.module) == ("Softsign", "aten.tanh", "")
    assert found.source.endswith(f"nets_localise.py:{line_of('torch.tanh', NETS)}")
    assert found.ratio > 1000


def test_a_missing_operator_is_found_on_pytorch_s_side(net):
    def change(graph):
        by_operator(graph, "Tanh").op_type = "Identity"

    assert net(change).torch_operator == "aten.tanh"


def test_a_wrong_order_of_elements_is_no_match(net):
    def change(graph):
        node = by_operator(graph, "Transpose")
        del node.attribute[:]
        node.op_type = "Identity"

    assert net(change).torch_operator in {"aten.transpose", "aten.flatten"}


def test_swapped_outputs_are_said_to_be_swapped(net):
    def change(graph):
        names = {"y": "h", "h": "y"}
        for node in graph.node:
            for held in (node.input, node.output):
                held[:] = [names.get(name, name) for name in held]

    found = net(change)
    assert found.value in {"y", "h"}
    assert "that of" in found.note


def test_a_missing_last_operator_is_told_by_what_the_output_is_instead(net):
    def change(graph):
        by_operator(graph, "Sigmoid").op_type = "Identity"

    found = net(change)
    assert found.value == "y"
    assert found.torch_operator == "aten.sigmoid"
    assert "aten.linear gives in 'second'" in found.note


def test_a_node_that_does_not_run_is_named(net):
    def change(graph):
        node = by_operator(graph, "Tanh")
        graph.initializer.append(numpy_helper.from_array(np.array([5, 7]), "wrong"))
        position = list(graph.node).index(node)
        reshape = helper.make_node("Reshape", [node.input[0], "wrong"], ["wrongly"], "broken")
        graph.node.insert(position, reshape)
        graph.node[position + 1].input[0] = "wrongly"

    found = net(change)
    assert (found.node, found.operator) == ("broken", "Reshape")
    assert "RunError" not in found.note
    assert found.note


def test_a_model_that_does_not_run_in_float64_is_compared_in_float32(nets, tmp_path):
    oracle, paths = nets["narrow"]
    case = oracle.declared[1]
    assert oracle.expected(case).exact is None
    model = onnx.load(paths["torchscript"])
    by_operator(model.graph, "Tanh").op_type = "Softsign"
    onnx.save(model, tmp_path / "model.onnx")
    found = localise(tmp_path / "model.onnx", oracle, case, safety=8)
    assert found.torch_operator == "aten.tanh"
    assert "float32" in found.note


# the zoo

MODELS = ("simple-cnn", "bert-encoder", "bilstm-tagger")
EXPORTERS = {name: ["dynamo", "torchscript"] for name in MODELS}
if Version(torch.__version__) < Version("2.13"):  # it makes the time of an LSTM constant
    EXPORTERS["bilstm-tagger"].remove("dynamo")
FAULTS = 4
REPLACED = {"Relu": "LeakyRelu", "Gelu": "Relu", "Tanh": "Softsign", "Sigmoid": "HardSigmoid"}


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    builds = Builds(tmp_path_factory.mktemp("zoo"))
    manifest = load_manifest(ROOT / "models.toml")
    entries = {}
    for name in MODELS:
        model = manifest.models[name]
        reference = builds.reference(model)
        variants = {v.exporter: v for v in model.variants if v.precision == "fp32"}
        paths = {e: builds.artefact(reference, variants[e]).path for e in EXPORTERS[name]}
        entries[name] = Oracle(reference), paths
    return entries


def test_nine_of_ten_faults_in_the_zoo_are_found_in_their_layer(zoo, tmp_path):
    rng = random.Random(0)
    found, missed = 0, []
    for name, (oracle, paths) in zoo.items():
        modules = [path for path, _ in oracle.reference.module.named_modules()]
        for exporter in EXPORTERS[name]:
            for number in range(FAULTS):
                path = tmp_path / "faulty.onnx"
                fault, layers = faulty(oracle, paths[exporter], path, modules, rng)
                if number % 2:  # a file of unknown origin
                    strip_names(path)
                place = localise(path, oracle, oracle.declared[1], safety=8)
                if place is not None and place.module in layers:
                    found += 1
                else:
                    missed.append((name, exporter, fault, layers, place))
    assert found >= 0.9 * (found + len(missed)), missed


def faulty(oracle, source, path, modules, rng):
    """Writes an artefact with one fault that shows; what it is, and the layers it may be put to."""
    case = oracle.declared[1]
    expected = oracle.expected(case).outputs
    base = onnx.load(source)
    sites = list(fault_sites(base.graph))
    while True:
        index, fault = rng.choice(sites)
        model = onnx.ModelProto()
        model.CopyFrom(base)
        node = model.graph.node[index]
        layers = layers_of(node, modules)
        what = f"{fault.__name__} {node.name}"
        fault(model.graph, node, rng)
        onnx.save(model, path)
        actual = onnxruntime.InferenceSession(str(path)).run(None, dict(case.inputs))
        if any(
            np.abs(a - e).max() > 1e-4 * np.abs(e).max()
            for a, e in zip(actual, expected, strict=True)
        ):
            return what, layers


def fault_sites(graph):
    weights = {tensor.name for tensor in graph.initializer}
    for index, node in enumerate(graph.node):
        operator = node.op_type
        if operator in {"Conv", "Gemm", "MatMul", "LSTM"} and node.input[1] in weights:
            yield index, scaled_channel
        if operator in {"Conv", "Gemm"} and len(node.input) > 2 and node.input[2] in weights:
            yield index, dropped_bias
        if operator == "LSTM":
            yield index, dropped_bias
        if operator == "LayerNormalization":
            yield index, changed_epsilon
        if operator in REPLACED:
            yield index, replaced_activation
            yield index, removed_activation
        if operator == "MaxPool":
            yield index, averaged_pool


def layers_of(node, modules):
    """The layer a node belongs to; two where batch norm was folded into a convolution."""
    layers = {name.removesuffix(".weight") for name in node.input if name.endswith(".weight")}
    if node.op_type != "Conv":
        layers = set()
    metadata = {entry.key: entry.value for entry in node.metadata_props}
    if "pkg.torch.onnx.name_scopes" in metadata:
        return layers | {ast.literal_eval(metadata["pkg.torch.onnx.name_scopes"])[-2]}
    # the tracer writes one scope for every module called, by a suffix of its path
    scopes = node.name.split("/")[1:-1]
    fitting = [path for path in modules if fits(path, scopes)]
    return layers | {min(fitting, key=len)}


def fits(path, scopes):
    parts = path.split(".") if path else []
    prefixes = [".".join(parts[: count + 1]) for count in range(len(parts))]
    if not scopes or not prefixes:
        return not scopes and not prefixes
    remaining = iter(prefixes)
    called = all(
        any(prefix == scope or prefix.endswith(f".{scope}") for prefix in remaining)
        for scope in scopes
    )
    return called and (path == scopes[-1] or path.endswith(f".{scopes[-1]}"))


def rewrite(graph, node, position, change):
    """Gives a node its own changed copy of a weight."""
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    array = numpy_helper.to_array(tensors[node.input[position]])
    name = f"{node.input[position]}_faulty"
    graph.initializer.append(numpy_helper.from_array(change(array.copy()), name))
    node.input[position] = name


def scaled_channel(graph, node, rng):
    axis = {"Conv": 0, "Gemm": 0, "LSTM": 1, "MatMul": -1}[node.op_type]

    def change(array):
        channel = rng.randrange(array.shape[axis])
        np.moveaxis(array, axis, 0)[channel] *= 1.5
        return array

    rewrite(graph, node, 1, change)


def dropped_bias(graph, node, rng):
    rewrite(graph, node, 3 if node.op_type == "LSTM" else 2, np.zeros_like)


def changed_epsilon(graph, node, rng):
    kept = [attribute for attribute in node.attribute if attribute.name != "epsilon"]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute("epsilon", 1e-2)])


def replaced_activation(graph, node, rng):
    node.op_type = REPLACED[node.op_type]
    del node.attribute[:]


def removed_activation(graph, node, rng):
    node.op_type = "Identity"
    del node.attribute[:]


def averaged_pool(graph, node, rng):
    kept = {a.name: list(a.ints) for a in node.attribute if a.name in {"kernel_shape", "strides"}}
    node.op_type = "AveragePool"
    del node.attribute[:]
    node.attribute.extend(helper.make_attribute(name, value) for name, value in kept.items())


def strip_names(path):
    model = onnx.load(path)
    for index, node in enumerate(model.graph.node):
        node.name = f"node{index}"
        del node.metadata_props[:]
    onnx.save(model, path)
