"""The tables of operators agree with ONNX's schemas and with each other."""

from __future__ import annotations

import onnx
import pytest
from small_models import quantized, save

from pytest_onnxcheck.engine.graph import operators


def standard(table) -> list[str]:
    """The operators of a table that ONNX has a schema of; ONNX Runtime's own have none there."""
    return [operator for operator in table if onnx.defs.has(operator)]


def names(operator: str) -> list[str]:
    """The inputs' names in ONNX's newest schema."""
    return [given.name for given in onnx.defs.get_schema(operator).inputs]


@pytest.mark.parametrize("operator", standard(operators.SCALES_AND_ZERO_POINTS))
def test_scales_and_zero_points_are_all_of_an_operator(operator):
    named = enumerate(names(operator))
    expected = [at for at, name in named if "scale" in name or "zero_point" in name]
    assert list(operators.SCALES_AND_ZERO_POINTS[operator]) == expected


@pytest.mark.parametrize("operator", standard(operators.OPTIONAL_BIAS))
def test_an_optional_bias_is_one(operator):
    bias = onnx.defs.get_schema(operator).inputs[operators.OPTIONAL_BIAS[operator]]
    assert bias.name in ("B", "C")
    assert bias.option == onnx.defs.OpSchema.FormalParameterOption.Optional


@pytest.mark.parametrize("operator", standard(operators.CONVOLUTION_KERNEL))
def test_the_kernel_of_a_convolution_is_its_weight(operator):
    assert names(operator)[operators.CONVOLUTION_KERNEL[operator]].lower() == "w"


def test_tables_agree():
    for operator, slots in operators.OPERAND_SCALES.items():
        assert set(slots) < set(operators.SCALES_AND_ZERO_POINTS[operator])
    for operator, places in operators.SATURABLE_WEIGHTS.items():
        assert operator in operators.INTEGER_COMPUTE
        for weight, zero in places:
            assert zero in operators.SCALES_AND_ZERO_POINTS[operator]
            assert weight not in operators.SCALES_AND_ZERO_POINTS[operator]
    assert operators.GATES.keys() == operators.GATE_ACTIVATIONS.keys()
    assert operators.PACKED_WEIGHT.keys() <= operators.SCALES_AND_ZERO_POINTS.keys()


def test_a_scale_from_a_tensors_own_values_is_shared_by_its_examples(tmp_path):
    dynamic = """(float[N,4] x) => (uint8[N,4] q, float s, uint8 z) {
        q, s, z = DynamicQuantizeLinear(x)
    }"""
    assert operators.shares_scale(save(tmp_path / "dynamic.onnx", dynamic))
    assert not operators.shares_scale(quantized(tmp_path / "static.onnx"))


def test_operators_of_domains_that_are_neither_onnxs_nor_onnx_runtimes_are_custom():
    graph = onnx.parser.parse_graph(
        "net (float[2] x) => (float[2] y) { a = Abs(x) b = ai.onnx.contrib.NegPos(a) "
        "c = com.microsoft.Gelu(b) d = my.domain.Clip(c) y = ai.onnx.ml.Scaler(d) }"
    )
    assert operators.custom_operators(graph) == ["Clip", "NegPos"]
