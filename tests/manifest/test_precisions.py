"""What follows from a precision stands in one table, and other tables by precision match it."""

import re
from typing import get_args

import onnx
import pytest

from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.judge.quantization import _ADVICE, _EFFECT_OUT_OF_RANGE, _REMEDY
from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.manifest.sections import (
    BUILTIN_QUANTIZATION,
    BUILTIN_TOLERANCE,
    FIXED_TOLERANCE,
)
from pytest_onnxcheck.manifest.terms import Precision

NAMES = get_args(Precision)


def test_every_precision_has_a_row_and_what_it_needs_elsewhere():
    assert tuple(PRECISIONS) == NAMES
    for table in (BUILTIN_QUANTIZATION, BUILTIN_TOLERANCE, FIXED_TOLERANCE):
        assert set(table) == set(NAMES)
    assert set(_ADVICE) == set(NAMES) - {"fp32"}


def test_weights_that_float16_does_not_hold_are_told_of_every_precision_in_float16():
    narrow = {name for name, traits in PRECISIONS.items() if traits.floats == "float16"}
    assert set(_REMEDY) == set(_EFFECT_OUT_OF_RANGE) == narrow == {"fp16", "half"}


def test_a_noise_floor_is_the_policy_where_it_is_measured():
    floored = {name for name, found in BUILTIN_TOLERANCE.items() if found.policy == "noise-floor"}
    assert floored == set(UNIT) == {"fp32", "fp16", "half"}
    assert UNIT["fp32"] == 2.0**-24
    assert UNIT["fp16"] == UNIT["half"] == 2.0**-11


@pytest.mark.parametrize("name", NAMES)
def test_weights_have_as_many_bits_as_the_row_says(name):
    traits = PRECISIONS[name]
    for tensor in traits.tensors:
        onnx.TensorProto.DataType.Value(tensor)  # onnx knows it
        digits = re.sub(r"\D", "", tensor) or "32"  # FLOAT has 32
        assert int(digits) == traits.bits
        assert tensor.lower() in (traits.floats, "float") or not traits.floats


@pytest.mark.parametrize("name", NAMES)
def test_options_and_traits_agree(name):
    traits, options = PRECISIONS[name], BUILTIN_QUANTIZATION[name].model_fields_set
    assert ("reduce_range" in options) == (traits.bits == 8)  # pairs of 8 bits saturate
    assert ("activation_type" in options) == traits.calibrated
    assert ("keep_io_types" in options) == (traits.bits == 16 and not traits.casts_module)
