"""Numbers as texts, and back. Imports nothing of ours."""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["byte_count", "milliseconds", "three_digits"]

_BYTES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def three_digits(value: float) -> str:
    """A number with three significant digits, never as 1.23e+03."""
    return format(Decimal(f"{value:#.3g}"), "f")


def milliseconds(seconds: float) -> str:
    """A time in ms, in three digits."""
    return f"{three_digits(seconds * 1e3)} ms"


def byte_count(text: str) -> int:
    """Bytes of a size as people write it: `20GB`, `1.5 TB`, `500M`, `0`; a kB has 1,000.

    Raises:
        ValueError: It is none.
    """
    found = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([kmgt]?)b?", text.strip().lower(), re.ASCII)
    if found is None:
        raise ValueError(f"{text!r} is no size: write 500MB, 20GB or 1TB")
    return int(Decimal(found[1]) * _BYTES[found[2]])
