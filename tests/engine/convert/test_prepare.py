"""Options that do not fit the graph are told, with what would; and the graph as prepared."""

import dataclasses

import onnx
import pytest

from pytest_onnxcheck.engine.convert.prepare import prepared
from pytest_onnxcheck.errors import QuantizeError
from pytest_onnxcheck.manifest import sections


@pytest.mark.parametrize(
    "precision", ["fp16", "bf16", "int8-dynamic", "int8-static", "int4-weight"]
)
def test_a_pattern_that_matches_no_node_is_told_with_those_that_are_close(make, precision):
    with pytest.raises(QuantizeError) as caught:
        make("mlp", precision, exclude_nodes=("/0/Gem",))
    text = str(caught.value)
    assert text.startswith(f"mlp: {precision}: exclude_nodes: '/0/Gem' matches no node; did you ")
    assert "did you mean '/0/Gemm" in text
    assert "named nodes are those of " in text
    assert "?." not in text
    assert "/1/Relu" in text  # few enough to be listed


@pytest.mark.parametrize(
    ("precision", "operator", "problem"),
    [
        ("int8-dynamic", "Gemm", "ONNX Runtime does not quantize it"),
        ("int8-dynamic", "LSTM", "the graph has none"),
        ("int8-static", "Erf", "ONNX Runtime does not quantize it"),
        ("int8-static", "Conv", "the graph has none"),
        ("int4-weight", "Conv", "ONNX Runtime does not quantize it"),
    ],
)
def test_operators_that_cannot_be_quantized_are_told_with_those_that_can(
    make, precision, operator, problem
):
    with pytest.raises(QuantizeError) as caught:
        make("mlp", precision, operators=(operator,))
    text = str(caught.value)
    assert text.startswith(f"mlp: {precision}: operators: {operator!r}: {problem}")
    assert "Supported: " in text
    own = "Gemm, Relu" if precision == "int8-static" else "MatMul"
    assert text.endswith(f"In the graph, of these: {own}")


def test_a_blocked_operator_that_nobody_knows_is_told(make):
    with pytest.raises(QuantizeError, match=r"op_block_list: there is no operator 'Softmx'"):
        make("block", "fp16", op_block_list=("Softmx",))
    assert make("mlp", "fp16", op_block_list=("Softmax",))  # it may stand in the defaults


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("key", ["{}", "*-{}"])
def test_a_list_of_the_models_own_that_blocks_nothing_is_told(project, precision, key):
    models, builds = project

    def built(blocked, own):
        options = sections.Quantization(op_block_list=blocked)
        key_ = key.format(precision)
        model = dataclasses.replace(models["mlp"], quantization={key_: options} if own else {})
        variant = model.variant("torchscript", 20, precision)
        merged = variant.quantization.model_copy(update={"op_block_list": blocked})
        reference = builds.reference(model)
        return builds.artefact(reference, dataclasses.replace(variant, quantization=merged))

    with pytest.raises(QuantizeError) as caught:
        built(("Conv", "MatMul"), own=True)
    assert str(caught.value) == (
        f"mlp: {precision}: op_block_list: the graph has no Conv and no MatMul: nothing is left "
        "in float32. It has Gemm, Relu"
    )
    assert built(("MatMul", "Gemm"), own=True)  # an exporter has the one, another the other
    assert built(("Conv", "Softmax"), own=False)  # of [defaults]


def test_a_prepared_file_has_no_gemm_when_asked(make):
    with prepared(make("mlp", "fp32").artefact.path, without_gemm=True) as path:
        names = [node.name for node in onnx.load(path).graph.node]
    assert "/0/Gemm_MatMul" in names
    assert not path.exists()
