"""Errors in one line, and lists that are cut."""

import pytest

from pytest_onnxcheck.wording import named_error, one_line, several


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


def test_an_error_is_named_by_its_type():
    assert named_error(KeyError("no\nsuch")) == r"KeyError: 'no\nsuch'"
    assert named_error(ValueError("no\nsuch axis"), 4) == "ValueError: no s …"


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
