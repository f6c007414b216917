"""Blame: every stage between PyTorch and the artefact gets it where it is due."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.diagnosis import programs
from pytest_onnxcheck.engine.diagnosis.blame import blame
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.runtime import evaluator
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS, CPU

ROOT = Path(__file__).parents[3]

NETS = """
import torch
import torch.nn.functional as F
from torch import nn


class Right(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 16)

    def forward(self, x):
        return F.gelu(self.linear(x))


class Branch(nn.Module):
    def forward(self, x):
        return x * 2 if x.shape[0] > 4 else torch.tanh(x)


class DataBranch(nn.Module):
    def forward(self, x):
        return x * 2 if x.abs().sum() > 50 else torch.tanh(x)


class PythonSize(nn.Module):
    def forward(self, x):
        return x / int(x.shape[0])


class DroppedDivisor(nn.Module):
    def forward(self, x):
        y = F.avg_pool2d(x.reshape(-1, 1, 4, 4), 2, divisor_override=3)
        return y.flatten(1).repeat(1, 4)


class DroppedThreshold(nn.Module):
    def forward(self, x):
        return F.softplus(3 * x, beta=2, threshold=3)
"""
MANIFEST = """
schema = 1
[models.net]
factory = "nets_blame.py:{net}"
exporters = ["{exporter}"]
dims = {{ batch = [2, 7] }}
[models.net.inputs.x]
shape = ["batch", 16]
[models.net.outputs.y]
shape = ["batch", 16]
"""


@pytest.fixture
def made(tmp_path_factory, monkeypatch):
    """Exports a model of this file; the oracle, its variant and artefact."""

    def make(net, exporter):
        root = tmp_path_factory.getbasetemp() / "nets_blame"
        root.mkdir(exist_ok=True)
        if not (root / "nets_blame.py").exists():
            (root / "nets_blame.py").write_text(NETS, encoding="utf-8")
        path = root / f"{net}-{exporter}.toml"
        path.write_text(MANIFEST.format(net=net, exporter=exporter), encoding="utf-8")
        model = load_manifest(path).models["net"]
        builds = Builds(root / "artefacts")
        reference = builds.reference(model)
        variant = model.variants[0]
        return Oracle(reference), variant, builds.artefact(reference, variant)

    return make


def blamed(made, net, exporter, case=-1):
    oracle, variant, artefact = made(net, exporter)
    return blame(Subject(artefact, artefact, oracle, variant, CPU), oracle.declared[case])


def stages(steps):
    return {step.name: step.agrees for step in steps}


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_nobody_is_blamed_for_a_right_artefact(made, exporter):
    stage, steps = blamed(made, "Right", exporter)
    assert stage is None
    assert [step.agrees for step in steps] == [True, True, True]
    assert all(step.ratio < 8 for step in steps)


# capture


@pytest.mark.parametrize("net", ["Branch", "DataBranch", "PythonSize"])
def test_what_the_tracer_froze_is_a_fault_of_the_capture(made, net):
    stage, steps = blamed(made, net, "torchscript")
    assert stage == "capture"
    assert steps[0].name == "traced program"
    assert steps[0].agrees is False


def test_a_guard_that_the_case_breaks_is_told(made):
    stage, steps = blamed(made, "Branch", "dynamo")
    assert stage == "capture"
    assert steps[0].note.startswith("guard: ")
    # without the guard it computes what the artefact computes
    assert math.isclose(steps[0].ratio, steps[1].ratio, rel_tol=1e-3)


def test_an_artefact_that_is_right_where_the_capture_fails_is_right(made):
    oracle, variant, artefact = made("Right", "dynamo")
    run = programs.exported
    try:
        programs.exported = lambda *_: (_ for _ in ()).throw(RuntimeError("guard: no"))
        stage, steps = blame(Subject(artefact, artefact, oracle, variant, CPU), oracle.declared[0])
    finally:
        programs.exported = run
    assert stage is None
    assert steps[0].agrees is False
    assert steps[0].ratio == math.inf


# conversion


@pytest.mark.parametrize(
    ("net", "exporter"),
    [
        ("DroppedDivisor", "torchscript"),
        ("DroppedDivisor", "dynamo"),
        ("DroppedThreshold", "torchscript"),
    ],
)
def test_a_dropped_argument_is_a_fault_of_the_conversion(made, net, exporter):
    stage, steps = blamed(made, net, exporter)
    assert stage == "conversion"
    assert stages(steps) == {
        "traced program" if exporter == "torchscript" else "exported program": True,
        "ONNX Runtime without optimisations": False,
        "onnx's reference evaluator": False,
        "ONNX Runtime, as it ships": False,
    }


def test_a_file_of_unknown_origin_has_no_capture(made):
    oracle, variant, artefact = made("DroppedThreshold", "torchscript")
    given = dataclasses.replace(variant, exporter="file", file=artefact.path)
    stage, steps = blame(Subject(artefact, artefact, oracle, given, CPU), oracle.declared[0])
    assert stage == "conversion"
    assert steps[0].agrees is None
    assert steps[0].note


def test_an_artefact_that_does_not_load_is_noted_not_raised(made, tmp_path):
    oracle, variant, artefact = made("Right", "torchscript")
    model = onnx.load(artefact.path)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "model.onnx")
    broken = Artefact.given(tmp_path / "model.onnx")
    stage, steps = blame(Subject(broken, broken, oracle, variant, CPU), oracle.declared[0])
    assert stage == "conversion"
    assert "NoSuchOperator" in steps[1].note


# runtime optimisation, provider


class Session:
    """Stands in for ONNX Runtime: no bug of its own is known that lasts from version to version."""

    outputs = ("y",)

    def __init__(self, session, factor):
        self.session, self.factor = session, factor

    def run(self, inputs):
        return [output * np.float32(self.factor) for output in self.session.run(inputs)]


def wrong_sessions(monkeypatch, is_wrong):
    opened = programs.open_session

    def open_session(artefact, target, *, optimise=True):
        session = opened(artefact, CPU, optimise=optimise)
        return Session(session, 1.1 if is_wrong(target, optimise) else 1.0)

    monkeypatch.setattr(programs, "open_session", open_session)


def test_a_graph_rewritten_wrongly_is_a_fault_of_the_optimisation(made, monkeypatch):
    wrong_sessions(monkeypatch, lambda target, optimise: optimise)
    assert blamed(made, "Right", "torchscript")[0] == "runtime optimisation"


def test_a_kernel_that_computes_wrongly_is_a_fault_of_the_provider(made, monkeypatch):
    wrong_sessions(monkeypatch, lambda target, optimise: True)
    stage, steps = blamed(made, "Right", "torchscript")
    assert stage == "provider"
    assert stages(steps)["onnx's reference evaluator"] is True


def test_a_large_graph_is_not_given_to_the_reference_evaluator(made, monkeypatch):
    wrong_sessions(monkeypatch, lambda target, optimise: True)
    monkeypatch.setattr(evaluator, "_MAX_NODES", 1)
    stage, steps = blamed(made, "Right", "torchscript")
    assert stage == "conversion"
    assert steps[2].agrees is None
    assert "nodes, at most 1 are run" in steps[2].note


def test_the_values_computed_count_for_the_reference_evaluator(made, monkeypatch):
    wrong_sessions(monkeypatch, lambda target, optimise: True)
    graph = onnx.load(made("Right", "torchscript")[2].path).graph
    weights = sum(math.prod(tensor.dims) for tensor in graph.initializer)
    monkeypatch.setattr(evaluator, "_MAX_ELEMENTS", weights)
    _, steps = blamed(made, "Right", "torchscript")
    assert steps[2].agrees is None
    assert f"elements of weights and values, at most {weights} are run" in steps[2].note


def test_operators_the_reference_evaluator_has_not_say_nothing(made, monkeypatch, tmp_path):
    wrong_sessions(monkeypatch, lambda target, optimise: True)
    oracle, variant, artefact = made("Right", "torchscript")
    model = onnx.load(artefact.path)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    node = next(node for node in model.graph.node if node.op_type == "Gelu")
    node.op_type, node.domain = "QuickGelu", "com.microsoft"
    del node.attribute[:]
    onnx.save(model, tmp_path / "model.onnx")
    other = Artefact.given(tmp_path / "model.onnx")
    _, steps = blame(Subject(other, other, oracle, variant, CPU), oracle.declared[0])
    assert steps[2].name == "onnx's reference evaluator"
    assert steps[2].agrees is None
    assert "QuickGelu" in steps[2].note


def test_another_target_is_a_fault_of_its_provider(made, monkeypatch):
    wrong_sessions(monkeypatch, lambda target, optimise: target.name == "cuda")
    oracle, variant, artefact = made("Right", "torchscript")
    cuda = BUILTIN_TARGETS["cuda"]
    stage, steps = blame(Subject(artefact, artefact, oracle, variant, cuda), oracle.declared[0])
    assert stage == "provider"
    assert steps[-1].name == "artefact on cuda"


# quantization


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    builds = Builds(tmp_path_factory.mktemp("cnn"))
    model = load_manifest(ROOT / "models.toml").models["simple-cnn"]
    reference = builds.reference(model)
    variants = {v.precision: v for v in model.variants if v.exporter == "torchscript"}
    artefacts = {p: builds.artefact(reference, v) for p, v in variants.items()}
    return Oracle(reference), variants, artefacts


@pytest.fixture
def clipped(cnn, tmp_path):
    """The int8 artefact with an activation's range far too small, as from bad calibration data."""
    model = onnx.load(cnn[2]["int8-static"].path)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    quantize = [node for node in model.graph.node if node.op_type == "QuantizeLinear"][3]
    scale = tensors[quantize.input[1]]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) / 20, scale.name))
    onnx.save(model, tmp_path / "model.onnx")
    return Artefact.given(tmp_path / "model.onnx")


def test_a_range_too_small_is_a_fault_of_the_quantization(cnn, clipped):
    oracle, variants, artefacts = cnn
    case = oracle.declared[-1]
    int8 = variants["int8-static"]
    stage, steps = blame(Subject(clipped, artefacts["fp32"], oracle, int8, CPU), case)
    assert stage == "quantization"
    assert [step.agrees for step in steps] == [True, True, True, False, False]
    assert steps[-1].ratio > 1
    whole, _ = blame(Subject(artefacts["int8-static"], artefacts["fp32"], oracle, int8, CPU), case)
    assert whole is None


def test_half_precision_is_measured_in_its_own_floors(cnn):
    oracle, variants, artefacts = cnn
    case = oracle.declared[-1]
    fp16 = variants["fp16"]
    stage, steps = blame(Subject(artefacts["fp16"], artefacts["fp32"], oracle, fp16, CPU), case)
    assert stage is None
    assert all(step.ratio < 8 for step in steps)


def test_a_wrong_float_artefact_is_not_a_fault_of_the_quantization(cnn, tmp_path):
    oracle, variants, artefacts = cnn
    model = onnx.load(artefacts["fp32"].path)
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Sigmoid"
    onnx.save(model, tmp_path / "model.onnx")
    wrong = Artefact.given(tmp_path / "model.onnx")
    int8 = variants["int8-static"]
    other = dataclasses.replace(wrong, path=tmp_path / "int8.onnx")
    onnx.save(model, other.path)
    stage, _ = blame(Subject(other, wrong, oracle, int8, CPU), oracle.declared[-1])
    assert stage == "conversion"


def test_without_a_float_artefact_the_two_cannot_be_told_apart(cnn, clipped):
    oracle, variants, _ = cnn
    given = dataclasses.replace(variants["int8-static"], exporter="file", file=clipped.path)
    _, steps = blame(Subject(clipped, clipped, oracle, given, CPU), oracle.declared[-1])
    assert [step.agrees for step in steps] == [None, False, False]
    assert "no fp32 artefact" in steps[1].note
    assert {step.unit for step in steps[1:]} == {"of the bound"}
