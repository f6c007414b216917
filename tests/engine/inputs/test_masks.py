"""Masks: what draws and kinds keep, in which values, and which rows keep nothing."""

import math

import numpy as np
import pytest

from pytest_onnxcheck.engine.inputs import masks
from pytest_onnxcheck.engine.inputs.kinds import filled
from pytest_onnxcheck.manifest.sections import Input

MASK = {"dtype": "int64", "fill": "mask"}
SHAPES = [(4, 7), (1, 7), (7,), (3, 1, 7, 7), (4, 1)]


def entry(**keys):
    return Input(**{**MASK, **keys}).named("m")


def drawn(shape, seed=0, **keys):
    made = entry(**keys)
    return np.asarray(masks.drawn(np.random.default_rng(seed), made, shape), made.dtype)


def of_kind(kind, shape, **keys):
    made = entry(**keys)
    return filled(kind, np.random.default_rng(0), made, np.zeros(shape, made.dtype))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("padding", [None, "right", "left"])
def test_draws_keep_a_part_of_every_row_and_pad_to_the_longest(shape, padding):
    for seed in range(20):
        mask = drawn(shape, seed, padding=padding)
        assert mask.shape == shape
        assert set(np.unique(mask)) <= {0, 1}
        steps = np.diff(mask, axis=-1)
        assert (steps >= 0 if padding == "left" else steps <= 0).all()
        assert mask.any(-1).all()
        if len(shape) > 1 and shape[0] > 1:
            assert mask.reshape(shape[0], -1).all(-1).any()


def test_a_single_example_is_padded_too():
    assert {drawn((1, 5), seed).sum() for seed in range(40)} == {1, 2, 3, 4, 5}


def test_rows_of_one_example_are_padded_alike():
    mask = drawn((3, 1, 4, 6))
    assert (mask == mask[:, :, :1]).all()


def test_a_causal_mask_keeps_nothing_behind_its_place():
    mask = drawn((2, 1, 5, 5), padding="causal")
    for row in range(5):
        assert not mask[:, :, row, row + 1 :].any()
    assert mask[..., 0].all()
    assert np.tri(5).tolist() in mask[:, 0].tolist()


def test_a_causal_mask_with_more_keys_than_queries_keeps_the_past():
    full = of_kind("all true", (1, 2, 5), padding="causal")
    assert full.tolist() == [[[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]]
    assert of_kind("all true", (1, 3, 2), padding="causal").any(-1).all()


@pytest.mark.parametrize(
    ("keys", "kept", "masked"),
    [
        ({}, 1, 0),
        ({"masked": 1}, 0, 1),
        ({"dtype": "bool", "masked": True}, False, True),
        ({"dtype": "float32", "masked": -math.inf}, 0.0, -math.inf),
        ({"dtype": "float32", "masked": -1e4}, 0.0, -1e4),
        ({"dtype": "float32"}, 1.0, 0.0),
    ],
)
def test_values_are_those_of_the_manifest(keys, kept, masked):
    mask = of_kind("right padding", (2, 4), **keys)
    assert mask.dtype == keys.get("dtype", "int64")
    assert mask.tolist() == [[kept] * 4, [kept] + [masked] * 3]


@pytest.mark.parametrize(
    "kind", ["right padding", "left padding", "single true", "alternating", "all true"]
)
@pytest.mark.parametrize("shape", SHAPES)
def test_no_kind_but_those_made_for_it_masks_a_whole_row(kind, shape):
    assert of_kind(kind, shape).any(-1).all()
    assert not of_kind("all false", shape).any()


def test_kinds_are_those_that_the_manifest_says_occur():
    found = {}
    kinds = ["all false", "one row false", "right padding", "left padding", "alternating"]
    every = {"padding": "any"}
    for keys in ({}, every, {"padding": "right"}, {"padding": "left", "empty_rows": True}):
        found[repr(keys)] = [kind for kind in kinds if masks.applies(kind, entry(**keys))]
    assert list(found.values()) == [
        ["right padding", "left padding", "alternating"],
        ["right padding", "left padding", "alternating"],
        ["right padding"],
        ["all false", "one row false", "left padding"],
    ]
    assert [kind for kind in kinds if masks.beyond(kind, entry())] == kinds[3:]
    assert not any(masks.beyond(kind, entry(**every)) for kind in kinds)
    assert not any(masks.beyond(kind, Input(dtype="bool")) for kind in kinds)


def test_rows_that_mask_everything_are_found_by_their_value():
    inputs = {
        "m": entry(),
        "added": entry(dtype="float32", masked=-math.inf),
        "keep": Input(dtype="bool"),
        "flag": Input(dtype="bool"),
        "types": Input(dtype="int64", range=(0, 1), fill="constant", value=0),
        "x": Input(),
    }
    arrays = {
        "m": np.array([[1, 0], [0, 0]]),
        "added": np.array([[0, -np.inf], [0, 0]], "float32"),
        "keep": np.array([[True, True], [False, False]]),
        "flag": np.array([False]),
        "types": np.zeros((2, 2), "int64"),
        "x": np.zeros((2, 2)),
    }
    assert masks.empty_rows(inputs, arrays) == ["m", "keep"]
    assert masks.whole_rows(inputs, arrays) == []
    arrays["m"][0] = 1
    assert masks.whole_rows(inputs, arrays) == ["m"]
