"""Numbers as texts. Imports nothing of ours."""

from __future__ import annotations

from decimal import Decimal

__all__ = ["milliseconds", "three_digits"]


def three_digits(value: float) -> str:
    """A number with three significant digits, never as 1.23e+03."""
    return format(Decimal(f"{value:#.3g}"), "f")


def milliseconds(seconds: float) -> str:
    """A time in ms, in three digits."""
    return f"{three_digits(seconds * 1e3)} ms"
