"""What several benchmarks share. Imports no PyTorch: `alone.py` times ONNX Runtime without it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["print_table"]


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Prints cells one below the other, flush right."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
