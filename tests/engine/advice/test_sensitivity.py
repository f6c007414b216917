"""Sensitivity: the node that int8 hurts is ranked first, and the artefact passes without it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import onnx
import pytest

from pytest_onnxcheck.engine.advice.own_loss import layers
from pytest_onnxcheck.engine.advice.sensitivity import measure, measure_cases
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.subject import Subject
from pytest_onnxcheck.errors import QuantizeError
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU
from pytest_onnxcheck.measurement import QuantizationMeasurement

NETS = """
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, activation=nn.ReLU, outlier=True, kernel=9):
        super().__init__()
        self.first = nn.Conv2d(3, 16, kernel, padding=kernel // 2)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.third = nn.Conv2d(16, 16, 3, padding=1)
        self.last = nn.Linear(16, 4)
        self.act = activation()
        if outlier:
            # a loud channel that the next layer hardly listens to: beside it the rest vanishes
            with torch.no_grad():
                self.second.weight[0] *= 3000
                self.third.weight[:, 0] *= 0.0003

    def forward(self, x):
        for layer in (self.first, self.second, self.third):
            x = self.act(layer(x))
        return self.last(x.mean((2, 3)))


def small():
    return Net(kernel=3)


def calm():
    return Net(outlier=False)


def clipped():
    class Sixth(nn.Hardtanh):
        def __init__(self):
            super().__init__(0.0, 0.1)
    return Net(Sixth, outlier=False)


class Attention(nn.Module):
    # an additive mask of float32's smallest number, as transformers has it, or of another
    def __init__(self, low=torch.finfo(torch.float32).min):
        super().__init__()
        self.low = low
        self.q, self.k, self.v, self.out = (nn.Linear(64, 64) for _ in range(4))
        with torch.no_grad():
            for layer in (self.q, self.k):
                layer.weight.mul_(4)  # sharp, as trained ones are

    def forward(self, x, mask):
        scores = self.q(x) @ self.k(x).transpose(1, 2) / 8
        scores = scores + (1.0 - mask.unsqueeze(1)) * self.low
        return self.out(torch.softmax(scores, -1) @ self.v(x)).mean(1)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = Attention(), Attention()

    def forward(self, x, mask):
        return self.second(x + self.first(x, mask).unsqueeze(1), mask)


def masked_by_thousands():
    return Attention(-10000.0)


def masked():
    rng = np.random.default_rng(0)
    mask = np.ones((2, 8), np.float32)
    mask[0, 5:] = 0
    for _ in range(4):
        yield {"x": rng.standard_normal((2, 8, 64)).astype(np.float32), "mask": mask}


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = nn.Linear(8, 32), nn.Linear(32, 32), nn.Linear(32, 4)
        with torch.no_grad():
            self.second.weight[0, 0] = 300.0

    def forward(self, x):
        return self.third(torch.sigmoid(self.second(torch.relu(self.first(x)))))
"""
IMAGE = """
[models.{name}]
factory = "nets_sensitivity.py:{factory}"
dims = {{ batch = [1, 2] }}
inputs.x.shape = ["batch", 3, 12, 12]
outputs.y.shape = ["batch", 4]
[models.{name}.quantization.int8-static]
reduce_range = false
{options}
"""
ATTENTION = """
[models.{name}]
factory = "nets_sensitivity.py:{factory}"
calibration.source = "nets_sensitivity.py:masked"
dims = {{ batch = [1, 2] }}
inputs.x.shape = ["batch", 8, 64]
inputs.mask = {{ shape = ["batch", 8], fill = "constant", value = 1 }}
outputs.y.shape = ["batch", 64]
[models.{name}.quantization.int8-static]
reduce_range = false
"""
MLP = """
[models.mlp]
factory = "nets_sensitivity.py:Mlp"
dims = { batch = [1, 4] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
[models.mlp.quantization.int8-static]
per_channel = false
reduce_range = false
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """By model: its reference's oracle, variant, artefact, fp32 artefact, and what builds more."""
    root = tmp_path_factory.mktemp("nets")
    (root / "nets_sensitivity.py").write_text(NETS, encoding="utf-8")
    text = 'schema = 1\n[defaults]\nexporters = ["torchscript"]\nopsets = [17]\n'
    text += 'precisions = ["fp32", "int8-static"]\n'
    text += IMAGE.format(name="loud", factory="Net", options="")
    text += IMAGE.format(name="small", factory="small", options="")
    text += IMAGE.format(name="symmetric", factory="Net", options="symmetric = true")
    text += IMAGE.format(name="calm", factory="calm", options="")
    text += IMAGE.format(name="clipped", factory="clipped", options="")
    text += IMAGE.format(
        name="excluded", factory="Net", options='exclude_nodes = ["/third/*", "/second/Conv"]'
    )
    text += ATTENTION.format(name="masked", factory="Attention")
    text += ATTENTION.format(name="twice", factory="Twice")
    text += ATTENTION.format(name="thousands", factory="masked_by_thousands")
    (root / "models.toml").write_text(text + MLP, encoding="utf-8")
    manifest = load_manifest(root / "models.toml")
    manifest.check()
    models = manifest.models
    builds = Builds(root / "artefacts")

    def make(name):
        reference = builds.reference(models[name])
        (variant,) = (each for each in models[name].variants if each.precision != "fp32")
        return (
            builds.oracle(reference),
            variant,
            builds.artefact(reference, variant),
            builds.float_artefact(reference, variant),
            lambda changed: builds.artefact(reference, changed),
        )

    return make


def ranked(made, name):
    oracle, variant, artefact, source, _ = made(name)
    inputs = oracle.declared[0].inputs
    return layers(source.path, artefact.path, inputs, variant.quantization.exclude_nodes)


def sensitivity(made, name, bound, seconds=60.0, of_file=None):
    oracle, variant, artefact, source, build = made(name)
    seen = []

    def failure(measured, _):
        if isinstance(measured, QuantizationMeasurement):
            return of_file
        seen.append([case.case for case in measured.cases])
        error = measured.worst("rel_rms")
        return None if error <= bound else f"{error} is more than {bound}"

    case = oracle.declared[0]
    found = measure(
        Subject(artefact, source, oracle, variant, CPU),
        case,
        build=build,
        failure=failure,
        seconds=seconds,
    )
    assert all(names == [each.name for each in oracle.declared] for names in seen)
    return found


def test_the_layer_that_hears_nothing_beside_an_outlier_is_ranked_first(made):
    worst, *others = (layer.loss for layer in ranked(made, "loud"))
    assert (worst.value, worst.operator) == ("/third/Conv", "Conv")
    assert worst.sqnr_db < 10
    # not the one behind it, whose input is ruined already: its own loss is small
    assert {"/first/Conv", "/second/Conv", "/last/Gemm"} <= {loss.value for loss in others}
    assert all(loss.sqnr_db > 25 for loss in others)
    assert others == sorted(others, key=lambda loss: loss.sqnr_db)


def test_an_outlier_weight_with_a_scale_per_tensor_is_ranked_first(made):
    first, second, third, *_ = (layer.loss for layer in ranked(made, "mlp"))
    # and what reads the value that it makes too large a range of
    assert {first.value, second.value} == {"/second/Gemm", "/Sigmoid"}
    assert second.sqnr_db < third.sqnr_db - 10


@pytest.mark.parametrize("name", ["calm", "clipped"])
def test_an_activation_left_to_the_range_of_a_quantizer_is_no_loss(made, name):
    _, _, artefact, *_ = made(name)
    import onnx

    kinds = {node.op_type for node in onnx.load(artefact.path).graph.node}
    assert not kinds & {"Relu", "Clip"}
    losses = [layer.loss for layer in ranked(made, name)]
    assert len(losses) >= 4
    assert all(loss.sqnr_db > 25 for loss in losses)


def test_leaving_it_and_what_feeds_it_in_float_passes(made):
    oracle, variant, artefact, source, _ = made("loud")
    subject = Subject(artefact, source, oracle, variant, CPU)
    before = measure_cases(subject, oracle.declared).worst("rel_rms")
    assert before > 0.05
    found = sensitivity(made, "loud", 0.02)
    first, *_, last = found.tried
    # the convolution alone does not help: the one before it still quantizes its output
    assert first.nodes == ("/third/Conv",)
    assert first.problem is not None
    assert set(last.nodes) == {"/third/Conv", "/second/Conv"}
    assert last.problem is None
    assert last.rel_rms < 0.02 < before
    assert 0.4 < last.size_ratio < 1
    assert found.layers[0].value == "/third/Conv"
    head = "[models.loud.quantization.torchscript-op17-int8-static]"
    assert found.toml == f'{head}\nexclude_nodes = ["/third/Conv", "/second/Conv"]'


@pytest.mark.parametrize(
    ("name", "of_file", "problem"),
    [("loud", "too large", "too large"), ("small", None, "no smaller than fp32")],
)
def test_what_breaks_a_budget_or_is_no_smaller_than_fp32_is_not_advised(
    made, name, of_file, problem
):
    found = sensitivity(made, name, 0.02, of_file=of_file)
    assert found.tried[-1].problem == problem
    assert {"/third/Conv", "/second/Conv"} == {*found.tried[-1].nodes}
    assert found.toml is None
    assert found.complete


def test_what_feeds_it_is_seen_through_an_activation_that_is_quantized_itself(made):
    (worst, *_) = ranked(made, "symmetric")
    assert worst.loss.value == "/third/Conv"
    assert "/second/Conv" in worst.neighbours
    assert any("elu" in name for name in worst.neighbours)
    assert sensitivity(made, "symmetric", 0.02).tried[-1].problem is None


def test_the_names_are_those_that_exclude_nodes_takes(made):
    oracle, variant, _, source, build = made("loud")
    found = sensitivity(made, "loud", 0.02).tried[-1]
    options = {"exclude_nodes": found.nodes}
    changed = dataclasses.replace(
        variant, quantization=variant.quantization.model_copy(update=options)
    )
    subject = Subject(build(changed), source, oracle, changed, CPU)
    again = measure_cases(subject, oracle.declared)
    assert again.worst("rel_rms") == found.rel_rms


def test_nodes_in_float_already_are_not_told_and_stay_there(made):
    names = [layer.loss.value for layer in ranked(made, "excluded")]
    assert sorted(names) == ["/first/Conv", "/last/Gemm"] or "/first/Conv" in names
    assert not {"/second/Conv", "/third/Conv"} & set(names)
    tried = sensitivity(made, "excluded", 0.0).tried
    assert all(each.nodes[:2] == ("/third/*", "/second/Conv") for each in tried)


def test_it_will_not_do_only_after_all_nodes_were_left_in_float(made):
    found = sensitivity(made, "loud", -math.inf)
    convolutions = {"/first/Conv", "/second/Conv", "/third/Conv", "/last/Gemm"}
    *some, every = found.tried
    assert some
    for each in some:
        assert not convolutions <= set(each.nodes)
    sizes = [len(each.nodes) for each in some]
    assert sizes == sorted(set(sizes))
    assert convolutions <= set(every.nodes)
    assert every.size_ratio == 1
    assert every.problem.endswith("; these are all nodes, so that int8 is not what fails")
    assert (found.toml, found.complete) == (None, True)


def test_where_it_takes_all_nodes_the_nearest_with_fewer_is_told(made):
    found = sensitivity(made, "loud", 1e-6)  # no int8 is that near
    text = found.tried[-1].problem
    assert text.startswith("it takes all nodes, and is fp32 then; nearest with fewer: 0.00")
    assert text.endswith("is more than 1e-06")
    assert found.complete


def test_a_softmax_and_the_masked_sum_it_reads_are_left_in_float_and_nothing_else(made):
    found = sensitivity(made, "masked", 0.05)
    last = found.tried[-1]
    assert last.problem is None
    assert len(last.nodes) == 2
    assert "/Softmax" in last.nodes
    assert any("Add" in name for name in last.nodes)
    assert last.size_ratio < 0.6
    assert found.complete
    assert all(name in found.toml for name in last.nodes)
    assert found.tried[0].rel_rms > 0.2  # one of them is not enough


def test_a_node_stays_in_float_though_the_tolerance_is_met_without_where_it_halves_the_loss(made):
    oracle, variant, artefact, source, _ = made("twice")
    subject = Subject(artefact, source, oracle, variant, CPU)
    before = measure_cases(subject, oracle.declared).worst("rel_rms")
    found = sensitivity(made, "twice", 0.9 * before)
    assert found.complete
    assert {"/first/Softmax", "/second/Softmax"} <= {*found.tried[-1].nodes}
    assert len(found.tried[-1].nodes) == 4  # each with the masked sum it reads
    assert found.tried[-1].rel_rms < 0.05 < 0.9 * before


@pytest.mark.parametrize("name", ["masked", "thousands"])
def test_a_mask_does_not_drown_what_the_values_beside_it_lose(made, name):
    oracle, _, artefact, source, _ = made(name)
    inputs = dict(oracle.declared[1].inputs)
    inputs["mask"] = inputs["mask"].copy()
    inputs["mask"][0, 5:] = 0
    losses = {}
    for layer in layers(source.path, artefact.path, inputs):
        losses.setdefault(layer.loss.operator, []).append(layer.loss.sqnr_db)
    assert min(losses["Add"]) < 10  # with the mask it is the mask alone that is heard
    assert losses["Softmax"][0] < 10
    assert all(loss > 25 for loss in losses["MatMul"])


def test_a_set_that_the_quantizer_refuses_is_no_end_of_the_search(made):
    def refusing(name):
        *others, build = made(name)
        asked = []

        def refuse_first(changed):
            asked.append(changed)
            if len(asked) == 1:
                raise QuantizeError("refused")
            return build(changed)

        return *others, refuse_first

    first, *_, last = sensitivity(refusing, "loud", 0.02).tried
    assert (first.problem, first.rel_rms) == ("refused", None)
    assert last.problem is None


def test_nothing_is_said_to_be_complete_when_the_time_was_over(made):
    assert not sensitivity(made, "loud", 0.02, seconds=0.0).complete


def test_nothing_is_tried_once_the_time_is_over(made):
    found = sensitivity(made, "loud", 0.02, seconds=0.0)
    assert found.layers[0].value == "/third/Conv"
    assert found.tried == ()


def test_the_artefact_stays_as_it_is(made):
    _, _, artefact, source, _ = made("loud")
    folders = [Path(each.path).parent for each in (artefact, source)]
    before = [sorted(path.name for path in folder.iterdir()) for folder in folders]
    content = artefact.path.read_bytes()
    ranked(made, "loud")
    assert artefact.path.read_bytes() == content
    assert [sorted(path.name for path in folder.iterdir()) for folder in folders] == before


def test_a_node_is_excluded_by_its_name_though_that_reads_as_a_glob(made, tmp_path):
    oracle, _, artefact, source, _ = made("loud")
    renamed = []
    for path in (source.path, artefact.path):
        model = onnx.load(path)
        for node in model.graph.node:
            node.name = "[third]" if node.name == "/third/Conv" else node.name
        renamed.append(tmp_path / f"{len(renamed)}.onnx")
        onnx.save(model, renamed[-1])

    def names(*excluded):
        found = layers(*renamed, oracle.declared[0].inputs, excluded)
        return {layer.loss.value for layer in found}

    assert names() - names("[third]") == {"[third]"}
