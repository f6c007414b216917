"""Numbers as texts: three significant digits, and seconds in milliseconds."""

from __future__ import annotations

import pytest

from pytest_onnxcheck.digits import milliseconds, three_digits


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0012345, "0.00123"), (1.0, "1.00"), (99.96, "100"), (12345.0, "12300")]
)
def test_three_digits_without_an_exponent(value, shown):
    assert three_digits(value) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(7.12e-6, "0.00712 ms"), (0.00123, "1.23 ms"), (1.5, "1500 ms")]
)
def test_seconds_are_shown_in_milliseconds(seconds, shown):
    assert milliseconds(seconds) == shown
