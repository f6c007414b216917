"""What became of the fp32 artefact: the counts of its graph, its size, and what it is beside."""

import dataclasses
import shutil

import pytest
from precision_nets import shapes_of

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks.quantization import measure
from pytest_onnxcheck.engine.graph.coverage import InferredGraph, coverage
from pytest_onnxcheck.engine.inputs.cases import example


def test_an_embedding_is_quantized_by_its_table(made):
    reference, variant, float_artefact, artefact = made("embedding", "int8-dynamic")
    found = measure(artefact, float_artefact, reference, variant)
    assert found.converted_kinds == {"Gather": 1}
    assert (found.coverage.weights, found.coverage.compute) == (1.0, None)
    assert found.size_ratio < 0.4


@pytest.mark.parametrize(
    ("name", "precision", "kind"),
    [
        ("attention", "fp16", "float16 tensors"),
        ("attention", "bf16", "bfloat16 tensors"),
        ("attention", "half", "float16 tensors"),
        ("attention", "int8-dynamic", "MatMulInteger"),
        ("convolutional", "int8-static", "Conv"),
        ("attention", "int4-weight", "MatMulNBits"),
    ],
)
def test_what_carries_the_precision_is_counted(made, name, precision, kind):
    reference, variant, float_artefact, artefact = made(name, precision)
    found = measure(artefact, float_artefact, reference, variant)
    assert found.converted_kinds[kind] > 0
    assert found.converted == sum(found.converted_kinds.values())
    assert found.size_ratio == artefact.size_bytes / float_artefact.size_bytes
    values = InferredGraph.read(artefact.path, shapes_of(example(reference)))
    assert found.coverage == coverage(values, precision)
    assert not found.identical
    assert (found.calibration is not None) == (precision == "int8-static")
    assert found.checkpoint_bytes is None


@pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic", "int4-weight"])
def test_a_float_artefact_carries_no_other_precision(made, precision):
    reference, variant, float_artefact, _ = made("convolutional", "fp32")
    variant = dataclasses.replace(variant, precision=precision)
    found = measure(float_artefact, float_artefact, reference, variant)
    assert found.converted == 0
    assert found.remaining == {"Conv": 2, "ConvTranspose": 1, "Gemm": 1}
    assert found.coverage.weights == found.coverage.compute == 0.0


def given(reference, variant, precisions):
    """Reference and variant of artefacts that were given for these precisions."""
    variants = tuple(dataclasses.replace(variant, precision=entry) for entry in precisions)
    model = dataclasses.replace(reference.model, variants=variants)
    return dataclasses.replace(reference, model=model)


def test_a_copy_of_the_fp32_artefact_is_recognised(made, tmp_path):
    reference, variant, float_artefact, _ = made("attention", "fp16")
    copied = tmp_path / "copy.onnx"
    shutil.copy(float_artefact.path, copied)
    variant = dataclasses.replace(variant, file=copied)
    copy = Artefact.given(copied)
    both = given(reference, variant, ["fp32", "fp16"])
    assert measure(copy, float_artefact, both, variant).identical
    assert measure(float_artefact, float_artefact, both, variant).identical  # one path for both
    alone = measure(copy, copy, given(reference, variant, ["fp16"]), variant)
    assert (alone.identical, alone.float_bytes, alone.size_ratio) == (False, None, None)


def test_the_checkpoint_is_weighed(made):
    reference, variant, float_artefact, artefact = made("attention", "fp16")
    reference = dataclasses.replace(reference, checkpoint_bytes=1234)
    found = measure(artefact, float_artefact, reference, variant)
    assert found.checkpoint_bytes == 1234
