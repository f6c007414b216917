"""Layers that int8 hurts: how much of its signal each keeps."""

from pathlib import Path

import onnx
import pytest
from onnx import numpy_helper

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.diagnosis.layers import layer_losses
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.manifest import load_manifest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    builds = Builds(tmp_path_factory.mktemp("cnn"))
    model = load_manifest(ROOT / "models.toml").models["simple-cnn"]
    reference = builds.reference(model)
    variants = {v.precision: v for v in model.variants if v.exporter == "torchscript"}
    paths = {
        p: builds.artefact(reference, variants[p]).path for p in ("fp32", "fp16", "int8-static")
    }
    return paths, Oracle(reference).declared[-1].inputs


def test_layers_are_told_the_worst_first(cnn):
    paths, inputs = cnn
    losses = layer_losses(paths["fp32"], paths["int8-static"], inputs)
    assert losses
    assert len(losses) <= 8
    assert [loss.sqnr_db for loss in losses] == sorted(loss.sqnr_db for loss in losses)
    assert all(10 < loss.sqnr_db < 60 for loss in losses)
    half = layer_losses(paths["fp32"], paths["fp16"], inputs)
    assert {loss.operator for loss in half} <= {"Conv", "Gemm"}
    assert all(loss.sqnr_db > 50 for loss in half)


def test_a_layer_with_a_bad_scale_is_the_worst(cnn, tmp_path):
    paths, inputs = cnn
    model = onnx.load(paths["int8-static"])
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    gemm = [node for node in model.graph.node if node.op_type == "Gemm"][-1]
    producers = {name: node for node in model.graph.node for name in node.output}
    scale = tensors[producers[gemm.input[1]].input[1]]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * 3, scale.name))
    onnx.save(model, tmp_path / "model.onnx")
    worst = layer_losses(paths["fp32"], tmp_path / "model.onnx", inputs)[0]
    assert worst.value == "logits"
    assert worst.sqnr_db < 5
