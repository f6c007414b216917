"""Catches what ONNX Runtime prints while a session is opened."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pytest_onnxcheck.engine.quiet import caught_stderr, logged

__all__ = ["messages", "printed"]


@contextlib.contextmanager
def printed() -> Iterator[list[str]]:
    """Collects what C++ writes to stderr, file descriptor 2, in place of showing it.

    ONNX Runtime says only there why it did not load a provider. Its lines, without colours, times
    and places, are in the list afterwards, errors first; another thread's output may be among them.
    """
    lines: list[str] = []
    caught: list[str] = []
    try:
        with caught_stderr() as caught:
            yield lines
    finally:
        lines += messages("".join(caught))


def messages(text: str) -> list[str]:
    """The lines that ONNX Runtime logged, without colours, times and places, errors first."""
    found = [logged(line) for line in text.splitlines()]
    found.sort(key=lambda entry: entry[0] not in ("E", "F"))
    return [message for _, message in found if message]
