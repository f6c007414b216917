"""Errors in one line, and lists that are cut."""

import pytest

from pytest_onnxcheck.wording import one_line, several


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
