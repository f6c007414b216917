"""Errors in one line, and lists that are cut."""

import pytest

from pytest_onnxcheck.wording import closest, meant, one_line, runs, several


@pytest.mark.parametrize(
    ("text", "limit", "line"),
    [
        ("", None, ""),
        ("  a\n\n\tb  c ", None, "a b c"),
        (ValueError("a\nb"), None, "a b"),
        ("abc", 3, "abc"),
        ("abcd", 3, "abc …"),
        ("a\n bcd", 3, "a b …"),
    ],
)
def test_one_line(text, limit, line):
    assert one_line(text, limit) == line


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((), ""),
        (("a", "b"), "a, b"),
        (("a", "b", "c"), "a, b and 1 more"),
        (["a", "b", "c", "d"], "a, b and 2 more"),
    ],
)
def test_several(names, text):
    assert several(names, 2) == text


@pytest.mark.parametrize(
    ("numbers", "step", "text"),
    [
        ([], 1, ""),
        ([7], 1, "7"),
        ([3, 4], 1, "3 and 4"),
        ([17, 33, 49, 65], 1, "17, 33, 49 and 65"),
        ([1, 2, 3, 9, 11, 12, 13], 1, "1..3, 9 and 11..13"),
        ([32, 64, 96, 160], 32, "32..96 and 160"),
        ([*range(1, 21, 2)], 1, "1, 3, 5, 7, 9, 11, 13, 15 and 2 more"),
    ],
)
def test_runs(numbers, step, text):
    assert runs(numbers, step) == text


def test_the_closest_name_is_meant():
    assert closest("shpae", ["dtype", "shape"]) == "shape"
    assert meant("shpae", iter(["dtype", "shape"])) == " (did you mean 'shape'?)"
    assert closest("nothing", ["dtype", "shape"]) is None
    assert meant("nothing", ["dtype", "shape"]) == ""
