"""What is said about calibration data: wrong, doubtful, or nothing."""

import pytest

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import Budget
from pytest_onnxcheck.measurement import (
    CalibrationMeasurement,
    FileCheck,
    QuantizationMeasurement,
)
from pytest_onnxcheck.verdict import Grade


def findings(**changes):
    given = {"origin": "64 examples of c.npz", "examples": 64, "sha256": "0" * 64, **changes}
    measured = QuantizationMeasurement(
        file=FileCheck("net.onnx", "0" * 64, 10, checker_error=None, inference_error=None),
        precision="int8-static",
        float_bytes=40,
        converted=3,
        converted_kinds={"Conv": 3},
        remaining={},
        calibration=CalibrationMeasurement(**given),
        seconds=1.0,
    )
    verdict = judge.quantization(measured, Budget())
    return [(f.grade, str(f)) for f in verdict.findings if f.what == "calibration"]


def test_real_examples_are_nothing_to_talk_about():
    assert findings() == []
    assert findings(examples=8) == []


@pytest.mark.parametrize(("value", "told"), [(0.0, "0"), (-1.5, "-1.5")])
def test_one_value_everywhere_fails(value, told):
    assert findings(constant={"image": value}, varies=False) == [
        (
            Grade.FAIL,
            f"calibration: input 'image' is {told} in all 64 examples of c.npz: every range that "
            "follows from it is wrong. Give real examples, or declare the input with fill = "
            '"constant" if the model never gets anything else',
        )
    ]


def test_one_value_everywhere_beside_an_input_that_varies_warns():
    assert findings(constant={"state": 0.0}) == [
        (
            Grade.WARN,
            "calibration: input 'state' is 0 in all 64 examples of c.npz: the ranges that follow "
            "from it hold only for that. Give real examples, or declare the input with fill = "
            '"constant" if the model never gets anything else',
        )
    ]


def test_random_draws_warn():
    assert findings(origin="16 random draws", examples=16, random=True) == [
        (
            Grade.WARN,
            "calibration: 16 random draws: the ranges are those of noise, not of your data. "
            "Give real examples: calibration = { file = ... }",
        )
    ]


def test_few_examples_warn():
    assert findings(origin="7 examples of c.npz", examples=7) == [
        (
            Grade.WARN,
            "calibration: only 7 examples (7 examples of c.npz), at least 8 expected: values that "
            "real data reaches and these do not are clipped. Give more",
        )
    ]
