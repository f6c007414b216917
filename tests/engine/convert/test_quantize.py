"""Precisions: each builds, loads and is right; options depend on what they are for."""

import dataclasses
import gc

import numpy as np
import pytest
import torch
from onnx import TensorProto

from pytest_onnxcheck import machine
from pytest_onnxcheck.engine.artefacts import writing
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.checker import check_file
from pytest_onnxcheck.engine.artefacts.external import data_files
from pytest_onnxcheck.engine.checks.structure import measure as measure_structure
from pytest_onnxcheck.engine.checks.structure import measure_model
from pytest_onnxcheck.engine.convert.export import export
from pytest_onnxcheck.engine.convert.quantize import quantize, resolved_options
from pytest_onnxcheck.engine.inputs.cases import example
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.errors import ExportError, QuantizeError
from pytest_onnxcheck.garbage import leave_out
from pytest_onnxcheck.manifest.targets import CPU

NAMES = [
    f"{net}-{exporter}"
    for net in ("convolutional", "block")
    for exporter in ("torchscript", "dynamo")
]
#: precision -> largest relative error; float32 itself is at 1e-7
ALLOWED = {
    "fp16": 2e-3,
    "half": 2e-3,
    "int8-dynamic": 0.05,
    "int8-static": 0.1,
    "int4-weight": 0.15,
}


@pytest.mark.parametrize("precision", ALLOWED)
@pytest.mark.parametrize("name", NAMES)
def test_every_precision_is_a_valid_file_that_loads_and_is_right(make, name, precision):
    made = make(name, precision)
    assert 1e-6 < made.loss() < ALLOWED[precision]
    checked = check_file(made.artefact)
    assert (checked.checker_error, checked.inference_error, checked.unsorted) == (None, None, False)


def test_half_holds_the_casted_modules_weights(make):
    made = make("mlp-dynamo", "half")
    module = made.reference.module
    assert {p.dtype for p in module.parameters()} == {torch.float32}  # the reference stays itself
    (found,) = made.constants("0.weight", "FLOAT16")
    np.testing.assert_array_equal(found, module[0].weight.half().detach().numpy())


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_an_output_that_a_module_in_half_casts_back_is_float32(make, exporter):
    made = make(f"casts_back-{exporter}", "half")
    assert (made.type_of("y"), made.type_of("shares")) == ("FLOAT16", "FLOAT")
    assert made.artefact.notes.narrowed == ("x", "y")
    measured = measure_structure(made.artefact, made.reference, made.variant)
    assert [spec.dtype for spec in measured.outputs] == ["float16", "float32"]
    assert [spec.dtype for spec in measured.expected_outputs] == ["float16", "float32"]
    inputs = example(made.reference)
    expected, found = made.reference.run(inputs), open_session(made.artefact, CPU).run(inputs)
    assert [array.dtype for array in found] == [np.float32, np.float32]
    np.testing.assert_allclose(found[1], expected[1], atol=2e-3)


def test_what_is_no_float_at_all_is_not_what_half_declares(make):
    made = make("mlp", "half")
    made.model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    measured = measure_model(made.model, made.reference, made.variant)
    assert [spec.dtype for spec in measured.outputs] == ["float64"]
    assert [spec.dtype for spec in measured.expected_outputs] == ["float16"]


@pytest.mark.parametrize("precision", [*ALLOWED, "bf16"])
def test_a_model_too_large_for_one_file_is_converted_alike(
    project, make, monkeypatch, tmp_path, precision
):
    _, builds = project
    made = make("block-dynamo", precision)
    reference = builds.reference(made.reference.model)
    calibration = builds.calibration(reference) if made.variant.traits.calibrated else None
    monkeypatch.setattr(writing, "MAX_INLINE_BYTES", 1 << 10)
    source, path = tmp_path / "model.onnx", tmp_path / "made" / "model.onnx"
    path.parent.mkdir()
    export(reference, made.variant, source)
    quantize(reference, made.variant, source, path, calibration)
    assert [file.name for file in data_files(path)] == ["model.onnx.data"]
    assert sorted(file.name for file in path.parent.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert path.stat().st_size < path.with_name("model.onnx.data").stat().st_size
    large = dataclasses.replace(Artefact.given(path, precision), notes=made.artefact.notes)
    checked = check_file(large)
    assert (checked.checker_error, checked.inference_error, checked.unsorted) == (None, None, False)
    assert not checked.unread
    if precision == "bf16":
        return  # ONNX Runtime has no kernels for it on the CPU
    inputs = example(reference)
    for found, expected in zip(
        open_session(large, CPU).run(inputs),
        open_session(made.artefact, CPU).run(inputs),
        strict=True,
    ):
        np.testing.assert_array_equal(found, expected)


def test_what_the_tool_says_is_told_in_one_line(make):
    with pytest.raises(QuantizeError) as caught:
        make("mlp", "int8-static", activation_type="int8", weight_type="uint8")
    assert str(caught.value).startswith("mlp: int8-static of ")
    assert "failed: ValueError: ONNXRuntime quantization doesn't support" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_does_not_run_in_float16_is_an_export_error(make):
    with pytest.raises(ExportError, match="torchscript export of the module in float16 at opset"):
        make("in_float32", "half")


@pytest.mark.parametrize(
    ("cpus", "reduced"),
    [
        (("x86-vnni", "x86-avx2", "arm64"), True),
        (("x86-avx2",), True),
        (("x86-vnni", "arm64"), False),
    ],
)
@pytest.mark.parametrize("flags", ["avx2", "avx512_vnni"])
def test_reduce_range_follows_the_manifests_cpus_and_not_this_one(
    project, monkeypatch, tmp_path, cpus, reduced, flags
):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n", encoding="utf-8")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    variant = project[0]["mlp"].variant("torchscript", 20, "int8-dynamic")
    variant = dataclasses.replace(variant, cpus=cpus)
    assert resolved_options(variant)["reduce_range"] is reduced
    given = variant.quantization.model_copy(update={"reduce_range": not reduced})
    variant = dataclasses.replace(variant, quantization=given)
    assert resolved_options(variant)["reduce_range"] is not reduced


def test_resolved_options_are_those_the_precision_has(project, make):
    variant = project[0]["mlp"].variant("torchscript", 20, "int4-weight")
    assert resolved_options(variant) == {
        "accuracy_level": 0,
        "block_size": 32,
        "exclude_nodes": [],
        "operators": ["MatMul"],
        "symmetric": True,
    }
    assert make("mlp", "int4-weight").artefact.notes.options == resolved_options(variant)
    assert resolved_options(project[0]["mlp"].variant("torchscript", 20, "half")) == {}


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_an_export_keeps_no_copy_of_the_module(project, make, monkeypatch, tmp_path, exporter):
    _, builds = project
    made = make(f"block-{exporter}", "fp32")
    reference = builds.reference(made.reference.model)
    kind = type(reference.module)
    left = []

    def freeze():
        left.extend(it for it in gc.get_objects() if type(it) is kind)

    leave_out.cache_clear()  # as in a process that exports for the first time
    monkeypatch.setattr(gc, "freeze", freeze)
    before = sum(type(it) is kind for it in gc.get_objects())
    export(reference, made.variant, tmp_path / "model.onnx")
    assert len(left) == before
