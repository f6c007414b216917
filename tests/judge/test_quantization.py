"""Quantized artefacts: judged red, and judged green."""

import dataclasses

import pytest
from helpers import FILE, file, only

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.measurement import CoverageMeasurement, QuantizationMeasurement
from pytest_onnxcheck.verdict import Grade


def quantization(budget=None, **changes):
    measured = QuantizationMeasurement(
        file=FILE,
        precision="int8-static",
        float_bytes=5_000_000,
        converted=3,
        converted_kinds={"QLinearConv": 3},
        remaining={"Gemm": 1},
        calibration=None,
        seconds=1.0,
    )
    return judge.quantization(dataclasses.replace(measured, **changes), budget or Budget())


def test_a_quantized_artefact_passes_without_a_budget():
    assert quantization().findings == ()


def test_a_quantized_file_the_checker_refuses_fails():
    assert quantization(file=file(checker_error="bad")).grade is Grade.FAIL
    assert quantization(file=file(inference_error="bad")).grade is Grade.FAIL


LEFT = (("Conv 'first'", 0.26), ("MatMul 'head'", 0.12))
NOTHING = CoverageMeasurement(weights=0.0, compute=None)


def test_an_artefact_in_which_nothing_was_quantized_fails():
    found = CoverageMeasurement(weights=0.0033, compute=2.3e-5)
    finding = only(quantization(coverage=found, remaining={"Conv": 2, "Gemm": 1}))
    assert finding.grade is Grade.FAIL
    assert finding.what == "precision int8-static"
    assert finding.text == (
        "nothing was quantized: 0.0033 of the weights and 2.3e-05 of the multiply-accumulates are "
        "int8-static (left in float: 2 Conv, 1 Gemm). Look at operators and exclude_nodes of "
        "[models.NAME.quantization.int8-static], and use int8-dynamic for LSTM, or drop this "
        "precision from the model"
    )


@pytest.mark.parametrize(
    ("precision", "advice"),
    [
        ("fp16", "Shorten op_block_list and exclude_nodes of [models.NAME.quantization.fp16]"),
        ("bf16", "Shorten op_block_list and exclude_nodes of [models.NAME.quantization.bf16]"),
        ("half", "Give an artefact of the module after .half()"),
        ("int8-dynamic", "leaves convolutions alone: use int8-static for them"),
        ("int4-weight", "It needs MatMul or Gemm with a constant weight"),
    ],
)
def test_what_to_do_where_nothing_was_quantized_follows_the_precision(precision, advice):
    finding = only(quantization(coverage=NOTHING, precision=precision))
    assert advice in finding.text
    assert finding.text.endswith(", or drop this precision from the model")


def test_nodes_that_the_manifest_left_in_float_are_told_before_what_the_precision_is_for():
    options = {"exclude_nodes": ["*"], "operators": ["MatMul", "LSTM"], "op_block_list": []}
    finding = only(quantization(coverage=NOTHING, precision="int8-dynamic", options=options))
    assert (
        "int8-dynamic with operators = ['MatMul', 'LSTM'] and exclude_nodes = ['*'] (left"
    ) in finding.text
    assert "Shorten exclude_nodes of [models.NAME.quantization.int8-dynamic], or" in finding.text
    assert "convolutions" not in finding.text
    options = {"exclude_nodes": [], "op_block_list": ["MatMul"]}
    finding = only(quantization(coverage=NOTHING, precision="fp16", options=options))
    assert "are fp16 with op_block_list = ['MatMul'] (left" in finding.text
    assert "Shorten op_block_list of [models.NAME.quantization.fp16], or" in finding.text


@pytest.mark.parametrize(("weights", "compute"), [(0.0100, 0.0), (0.02, 0.0999), (None, 0.05)])
def test_hardly_any_coverage_warns_where_no_budget_says_more(weights, compute):
    found = CoverageMeasurement(weights=weights, compute=compute, floating=LEFT)
    finding = only(quantization(coverage=found))
    assert (finding.grade, finding.what) == (Grade.WARN, "coverage")
    assert "left in float: Conv 'first' 0.26, MatMul 'head' 0.12. Look at operators" in finding.text
    assert finding.text.endswith(", or set budget.min_coverage to have it judged")
    assert quantization(Budget(min_coverage=0.05), coverage=found).grade is not Grade.PASS
    enough = dataclasses.replace(found, weights=0.1)
    assert quantization(coverage=enough).findings == ()


def test_little_coverage_is_said_in_numbers_and_a_budget_takes_the_place_of_it():
    found = CoverageMeasurement(weights=0.05, compute=0.04)
    assert only(quantization(coverage=found)).text.startswith(
        "only 0.05 of the weights and 0.04 of the multiply-accumulates are int8-static. Look at"
    )
    assert quantization(Budget(min_coverage=0.04), coverage=found).findings == ()


def test_the_fp32_artefact_under_another_name_fails():
    finding = only(quantization(identical=True, coverage=NOTHING, float_bytes=1_500_000))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "precision int8-static [net.onnx]: is the fp32 artefact under another name, byte for byte. "
        "Quantize it, or drop this precision from the model"
    )


def test_coverage_at_the_budget_passes_and_below_it_fails():
    found = CoverageMeasurement(weights=0.95, compute=0.62, floating=LEFT)
    assert quantization(coverage=found).findings == ()
    assert quantization(Budget(min_coverage=0.62), coverage=found).findings == ()
    finding = only(quantization(Budget(min_coverage=0.9), coverage=found))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "coverage: 0.62 of the multiply-accumulates are int8-static, asked for at least 0.9 "
        "(budget.min_coverage); left in float: Conv 'first' 0.26, MatMul 'head' 0.12"
    )


def test_weights_below_the_coverage_asked_for_fail():
    found = CoverageMeasurement(weights=0.5, compute=1.0)
    finding = only(quantization(Budget(min_coverage=0.9), coverage=found))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "coverage: 0.50 of the weights are int8-static, asked for at least 0.9 "
        "(budget.min_coverage)"
    )


def test_coverage_that_could_not_be_counted_is_no_silent_pass():
    found = CoverageMeasurement(weights=1.0, compute=None, uncounted=2)
    texts = [str(f) for f in quantization(Budget(min_coverage=0.9), coverage=found).findings]
    assert texts == [
        "coverage: it has no multiply-accumulates that could be counted, asked for at least 0.9 "
        "(budget.min_coverage)",
        "coverage: the multiply-accumulates of 2 nodes could not be counted, and are left out of "
        "their share (budget.min_coverage)",
    ]


@pytest.mark.parametrize(
    ("precision", "larger", "smaller", "mended"),
    [
        (
            *("fp16", "clipped to it"),
            "raised to 6e-8, its smallest number, as ONNX Runtime's tool does",
            "Leave their nodes in float32 (exclude_nodes or op_block_list of",
        ),
        (
            *("half", "infinite", "zero"),
            "Use fp16, which can leave nodes in float32 (exclude_nodes), or bf16",
        ),
    ],
)
def test_weights_beyond_float16_fail_and_those_below_warn(precision, larger, smaller, mended):
    finding = only(quantization(precision=precision, clipped=("a (3 of 512 elements)", "b")))
    assert finding.grade is Grade.FAIL
    assert str(finding).startswith(
        f"weights: beyond 65504, the largest float16, and {larger}: a (3 of 512 elements), b. "
    )
    assert mended in finding.text
    finding = only(quantization(precision=precision, vanished=("a",)))
    assert finding.grade is Grade.WARN
    assert finding.text.startswith(f"below what float16 holds (3e-8), and {smaller}: a. ")
    assert mended in finding.text


def test_a_file_that_is_no_smaller_than_fp32_warns_where_no_budget_says_more():
    finding = only(quantization(float_bytes=1_500_000))
    assert finding.grade is Grade.WARN
    assert str(finding).startswith(
        "size ratio: 1.000 of the fp32 artefact's 1500000 bytes: this variant is no smaller."
    )
    assert quantization(Budget(max_size_ratio=1.0), float_bytes=1_500_000).findings == ()
    assert quantization(float_bytes=1_500_001).findings == ()


def test_an_artefact_with_nothing_to_quantize_fails():
    found = CoverageMeasurement(weights=None, compute=None)
    finding = only(quantization(coverage=found, remaining={}, precision="fp16"))
    assert finding.grade is Grade.FAIL
    assert (
        "none of the weights and none of the multiply-accumulates are fp16 "
        "(left in float: no operator that could be)"
    ) in finding.text


def test_size_ratio_at_the_budget_passes_and_beyond_it_fails():
    assert quantization(Budget(max_size_ratio=0.3)).findings == ()
    finding = only(quantization(Budget(max_size_ratio=0.2999)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == (
        "size ratio: 0.300 of the fp32 artefact's 5000000 bytes, "
        "allowed 0.2999 (budget.max_size_ratio)"
    )


def test_a_size_ratio_that_cannot_be_measured_is_no_pass():
    verdict = quantization(Budget(max_size_ratio=0.3), float_bytes=None)
    assert verdict.grade is not Grade.PASS
    assert "max_size_ratio" in verdict.reason


def test_an_unmeasured_size_ratio_without_a_budget_is_nothing_to_tell():
    assert quantization(float_bytes=None).findings == ()


def test_size_at_the_budget_passes_and_beyond_it_fails():
    assert quantization(Budget(max_size_mb=1.5)).findings == ()
    finding = only(quantization(Budget(max_size_mb=1.5), file=file(size_bytes=1_510_000)))
    assert finding.grade is Grade.FAIL
    assert str(finding) == "size: 1.51 MB on disk, allowed 1.5 (budget.max_size_mb)"
