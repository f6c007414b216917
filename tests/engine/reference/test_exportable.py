"""What exporters are given: the module itself, or one whose inputs and outputs are flat."""

import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.diagnosis.programs import exported, traced
from pytest_onnxcheck.engine.diagnosis.provenance import module_of
from pytest_onnxcheck.engine.inputs.cases import declared_cases, example
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.exportable import exportable
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.manifest import load_manifest

NETS = '''
import dataclasses

import torch
from torch import nn


@dataclasses.dataclass
class State:
    hidden: torch.Tensor
    pairs: list[tuple[torch.Tensor, torch.Tensor]]


@dataclasses.dataclass
class Result:
    logits: torch.Tensor
    state: State


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("shift", torch.full((4,), 0.25), persistent=False)

    def forward(self, x):
        return torch.tanh(self.linear(x)) + self.shift


class Net(nn.Module):
    """Structures in and out, a keyword-only argument, a tensor that is not registered."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Layer() for _ in range(2))
        self.scale = nn.Parameter(torch.full((4,), 1.5))
        self.plain = torch.full((4,), 0.125)

    def forward(self, x, state: State, *, offset, mode="sum", **kwargs):
        x = x * self.scale + offset * kwargs["factor"]
        for layer, (left, right) in zip(self.layers, state.pairs):
            x = layer(x) + left * right
        x = torch.sigmoid(x + state.hidden) - self.plain
        if mode == "sum":
            x = x + 1
        return Result(x, State(x * 2, [(left + x, right) for left, right in state.pairs]))


class ByHand(Net):
    def forward(self, x, hidden, a, b, c, d, factor):
        found = super().forward(x, State(hidden, [(a, b), (c, d)]), offset=2.0, factor=factor)
        pairs = [tensor for pair in found.state.pairs for tensor in pair]
        return found.logits, found.state.hidden, *pairs


class Star(nn.Module):
    def forward(self, x, *others):
        return {("sum", 0): x + others[0], ("product", 1): x * others[1]}


class Plain(nn.Module):
    def forward(self, x, y):
        return {"sum": x + y, "rest": [x * y]}
'''
SHAPES = """
[models.{name}]
factory = "nets.py:{factory}"
dims.batch = [1, 3]
{more}
"""
#: input of the flat model -> place in the nested one
PLACES = {
    "x": "x",
    "hidden": "state.hidden",
    "a": "state.pairs.0.0",
    "b": "state.pairs.0.1",
    "c": "state.pairs.1.0",
    "d": "state.pairs.1.1",
    "factor": "kwargs.factor",
}
OUTPUTS = ("logits", "state", "pa", "pb", "pc", "pd")


def net(name, factory, inputs, outputs=OUTPUTS, more=""):
    lines = [more]
    for key, path in inputs.items():
        written = f'path = "{path}", ' if path else ""
        lines.append(f'inputs."{key}" = {{ {written}shape = ["batch", 4] }}')
    lines += [f'outputs.{key}.shape = ["batch", 4]' for key in outputs]
    return SHAPES.format(name=name, factory=factory, more="\n".join(lines))


@pytest.fixture
def models(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")
    (tmp_path / "models.toml").write_text(
        "schema = 1\n"
        + net("net", "Net", PLACES, more="arguments = { offset = 2.0 }")
        + net("hand", "ByHand", dict.fromkeys(PLACES))
        + net("star", "Star", {"x": "", "a": "", "b": ""}, ("sum", "product"))
        + net("plain", "Plain", {"a": "", "b": ""}, ("sum", "product"))
        + net("swapped", "Plain", {"y": "", "x": ""}, ("sum", "product")),
        encoding="utf-8",
    )
    manifest = load_manifest(tmp_path / "models.toml")
    manifest.check()
    return manifest.models


def graph_of(builds, model, exporter):
    reference = builds.reference(model)
    artefact = builds.artefact(reference, model.variant(exporter, 18, "fp32"))
    return reference, onnx.load(artefact.path).graph


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_an_artefact_has_the_names_it_would_have_without_structures(models, tmp_path, exporter):
    builds = Builds(tmp_path / "artefacts")
    reference, nested = graph_of(builds, models["net"], exporter)
    _, flat = graph_of(builds, models["hand"], exporter)
    assert [value.name for value in nested.input] == list(PLACES)
    assert [value.name for value in nested.output] == list(OUTPUTS)
    assert [node.name for node in nested.node] == [node.name for node in flat.node]
    weights = [tensor.name for tensor in nested.initializer]
    assert weights == [tensor.name for tensor in flat.initializer]
    assert {"scale", "layers.0.linear.weight"} < set(weights)
    modules = [name for name, _ in reference.module.named_modules()]
    linear = [node for node in nested.node if node.op_type == "Gemm"]
    assert [module_of(node, modules) for node in linear] == ["layers.0.linear", "layers.1.linear"]
    if exporter == "dynamo":
        assert "plain" in weights
        notes = [entry.value for node in nested.node for entry in node.metadata_props]
        assert any("['nets.Net', 'nets.Layer'" in note for note in notes)
        assert not any("Flat" in note for note in notes)


def test_hooks_see_the_arguments_that_the_module_takes(models):
    reference = load_reference(models["net"])
    module = reference.copy()
    seen = []
    module.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args, kwargs)), with_kwargs=True
    )
    made = exportable(reference, example(reference))
    tensors = {name: torch.ones(3, 4) for name in PLACES}
    outputs = made.module(module, tensors)(*made.arguments(tensors))
    assert [type(output) for output in outputs] == [torch.Tensor] * 6
    ((args, kwargs),) = seen
    assert [type(argument).__name__ for argument in args] == ["Tensor", "State"]
    assert kwargs.keys() == {"offset", "factor"}


@pytest.mark.parametrize("name", ["star", "swapped"])
def test_what_exporters_cannot_take_apart_is_flat(models, name):
    reference = load_reference(models[name])
    made = exportable(reference, example(reference))
    assert made.flat
    assert made.dynamic_shapes() == (({0: "batch"},) * len(models[name].inputs),)


def test_plain_calls_are_exported_as_they_are(models):
    reference = load_reference(models["plain"])
    made = exportable(reference, example(reference))
    module = reference.copy()
    assert made.module(module, {}) is module
    assert made.dynamic_shapes() == ({0: "batch"}, {0: "batch"})


@pytest.mark.parametrize("name", ["net", "star", "swapped", "plain"])
@pytest.mark.parametrize("program", [exported, traced])
def test_the_programs_of_a_diagnosis_are_called_alike(models, name, program):
    reference = load_reference(models[name])
    case = declared_cases(reference)[-1]
    outputs, _ = program(reference, case)
    expected = reference.run(case.inputs)
    assert list(outputs) == list(models[name].outputs)
    for found, wanted in zip(outputs.values(), expected, strict=True):
        assert abs(found - wanted).max() < 1e-6


@pytest.mark.parametrize("kind", ["scripted", "program"])
def test_archives_and_programs_are_exported_with_outputs_by_path(tmp_path, kind):
    class Net(torch.nn.Module):
        def forward(self, x, y):
            return {"sum": x + y, "product": x * y}

    given = (torch.ones(3, 4), torch.ones(3, 4))
    if kind == "scripted":
        torch.jit.script(Net()).save(tmp_path / "net.pt")
    else:
        batch = {0: torch.export.Dim("batch")}
        program = torch.export.export(Net(), given, dynamic_shapes=(batch, batch))
        torch.export.save(program, tmp_path / "net.pt2")
    suffix = {"scripted": "pt", "program": "pt2"}[kind]
    (tmp_path / "models.toml").write_text(
        f'schema = 1\n[models.net]\ncheckpoint = "net.{suffix}"\ndims.batch = [1, 3]\n'
        'inputs.x.shape = ["batch", 4]\ninputs.y.shape = ["batch", 4]\n'
        'outputs.times = { path = "product", shape = ["batch", 4] }\n',
        encoding="utf-8",
    )
    model = load_manifest(tmp_path / "models.toml").models["net"]
    exporter = {"scripted": "torchscript", "program": "dynamo"}[kind]
    _, graph = graph_of(Builds(tmp_path / "artefacts"), model, exporter)
    assert [value.name for value in graph.input] == ["x", "y"]
    assert [value.name for value in graph.output] == ["times"]
    assert [node.op_type for node in graph.node] == ["Mul"]


@pytest.mark.parametrize("kind", ["script", "trace"])
def test_inputs_of_an_archive_in_another_order_than_forwards_go_by_name(tmp_path, kind):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)

        def forward(self, x, scale):
            return self.linear(x) / scale - x

    given = {"scale": torch.full((3, 4), 2.0), "x": torch.rand(3, 4)}
    net = Net().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        example = (given["x"], given["scale"])
        made = torch.jit.script(net) if kind == "script" else torch.jit.trace(net, example)
        made.save(tmp_path / "net.pt")
    (tmp_path / "models.toml").write_text(
        'schema = 1\n[models.net]\ncheckpoint = "net.pt"\ndims.batch = [1, 3]\n'
        'inputs.scale.shape = ["batch", 4]\ninputs.x.shape = ["batch", 4]\n'
        'outputs.y.shape = ["batch", 4]\n',
        encoding="utf-8",
    )
    model = load_manifest(tmp_path / "models.toml").models["net"]
    builds = Builds(tmp_path / "artefacts")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as in many a project: torch deprecates its own archives
        reference = builds.reference(model)
        artefact = builds.artefact(reference, model.variant("torchscript", 18, "fp32"))
        wide = Oracle(reference).widened_run(declared_cases(reference)[-1])
    assert wide[0].dtype == "float64"
    session = onnxruntime.InferenceSession(artefact.path, providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == ["scale", "x"]
    arrays = {name: tensor.numpy() for name, tensor in given.items()}
    wanted = net(given["x"], given["scale"]).detach().numpy()
    for found in (session.run(None, arrays)[0], reference.run(arrays)[0]):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
