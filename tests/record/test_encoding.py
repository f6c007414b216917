"""Dataclasses to JSON and back."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import pytest

from pytest_onnxcheck.record.encoding import as_json, pieces, read


@dataclass(frozen=True)
class Part:
    value: float
    kind: str = "inf"


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    number: float | int | None = None


def test_nan_and_infinity_become_strings():
    text = as_json({"a": [math.nan, (math.inf, {"b": -math.inf})], "c": 1.5, 3: None})
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": ["nan", ["inf", {"b": "-inf"}]],
        "c": 1.5,
        "3": None,
    }


def test_strings_become_nan_and_infinity_where_a_field_is_a_float():
    found = read(Whole, {"parts": [{"value": "-inf"}, {"value": "nan"}], "number": "inf"})
    assert found.parts[0] == Part(-math.inf, "inf")
    assert math.isnan(found.parts[1].value)
    assert found.number == math.inf


def test_integers_stay_integers():
    exact = 2**60 + 1
    found = read(Whole, {"parts": (), "number": exact})
    assert (found.number, type(found.number)) == (exact, int)


def test_keys_without_a_field_are_left_out():
    assert read(Part, {"value": 1, "later": True}) == Part(1.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"parts": [{"value": 1.0}, {}]}, "parts.1.value: Field required"),
        ({"parts": [{"value": "fast"}]}, "parts.0.value: Input should be a valid number"),
        ([], "Input should be a dictionary or an instance of Whole"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(value: object, text: str):
    with pytest.raises(ValueError, match=f"^{text}"):
        read(Whole, value)


@pytest.mark.parametrize(
    "checks", [[], [{}], [{"a": [math.nan, {"b": ()}]}, {"c": "two\nlines"}, 1]]
)
def test_pieces_are_the_whole(checks: list[object]):
    whole = {"format": 1, "checks": checks, "history": ["x"], "job": {"none": {}}}
    assert "".join(pieces(whole)) == as_json(whole)
    assert "".join(pieces({**whole, "checks": iter(checks)})) == as_json(whole)


def test_pieces_are_asked_for_one_by_one():
    checks = ({"number": number} for number in range(3))
    written = pieces({"checks": checks})
    assert [next(written), next(written)] == ['{\n "checks": ', '[\n  {\n   "number": 0\n  }']
    assert next(checks) == {"number": 1}
