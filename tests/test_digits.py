"""Numbers as texts: three significant digits, and seconds in milliseconds."""

from __future__ import annotations

import pytest

from pytest_onnxcheck.digits import byte_count, milliseconds, three_digits


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


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("20GB", 20 * 10**9),
        ("1.5 TB", 15 * 10**11),
        ("500M", 5 * 10**8),
        ("2 kb", 2000),
        ("0", 0),
        (" 7b ", 7),
    ],
)
def test_sizes_are_read_as_people_write_them(text, count):
    assert byte_count(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1e9", "1,5GB", "inf", "nan", "2GiB", "9" * 99])
def test_what_is_no_size_is_told(text):
    with pytest.raises(ValueError, match="is no size: write 500MB, 20GB or 1TB"):
        byte_count(text)
