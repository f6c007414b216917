"""Numbers as texts. Imports nothing of ours."""

from __future__ import annotations

from decimal import Decimal

__all__ = ["three_digits"]


def three_digits(value: float) -> str:
    """A number with three significant digits, never as 1.23e+03."""
    return format(Decimal(f"{value:#.3g}"), "f")
