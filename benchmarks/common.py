"""What several benchmarks share. Imports no PyTorch: `alone.py` times ONNX Runtime without it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pytest_onnxcheck.engine.speed.timing import Rounds

__all__ = ["Kept", "print_table"]


class Kept:
    """What `latency.measure` needs of pytest-benchmark's entries: keeps the rounds.

    Attributes:
        rounds: The rounds, once it has measured.
    """

    def __init__(self) -> None:
        self.rounds = Rounds(0)

    def record(self, run: Callable[[], Any]) -> None:
        """Runs it."""
        run()

    def fill(self, rounds: Rounds, info: dict[str, Any]) -> None:
        """Keeps them."""
        self.rounds = rounds

    def skip(self) -> None:
        """There is nothing to leave out."""


def print_table(rows: Iterable[Sequence[str]]) -> None:
    """Prints cells one below the other, flush right."""
    lines = list(rows)
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
