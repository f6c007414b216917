"""Keeps what libraries log, print and warn out of the report."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import TextIO

__all__ = ["caught_stderr", "caught_stdout", "logged", "quiet", "said_once"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: what ONNX Runtime puts before a message: time, level and place; then, often, place and
#: signature of a C++ function
_LOGGED = re.compile(r"[\d-]+ [\d:.]+ \[([VIWEF]):[^]]*\] (?:/\S+\.(?:cc|h):\d+ .*?\) )?(.*)")
_NUMBER = re.compile(r"\d+")


@contextlib.contextmanager
def quiet(logs: int = logging.CRITICAL) -> Iterator[list[warnings.WarningMessage]]:
    """Swallows standard output, all warnings, and log records up to a level.

    Args:
        logs: The highest level of the log records that are dropped; those above it get through.

    Yields:
        The warnings, as they come.
    """
    root = logging.getLogger()
    disabled, level = root.manager.disable, root.level
    logging.disable(max(disabled, logs))
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(record=True) as warned,
        ):
            warnings.simplefilter("always")
            yield warned
    finally:
        logging.disable(disabled)
        root.setLevel(level)  # onnxruntime's int4 quantizer sets it when it is imported


@contextlib.contextmanager
def said_once() -> Iterator[None]:
    """Lets each message of ONNX Runtime through to stderr once, at the end, with how often it came.

    Its C++ side writes there, to file descriptor 2, at every run that fails. Messages that differ
    in numbers only, such as sizes, are one; the first is told. Everything else gets through as it
    is.
    """
    text: list[str] = []
    try:
        with caught_stderr() as text:
            yield
    finally:
        if text:
            with contextlib.suppress(OSError):
                os.write(2, _once("".join(text)).encode())


@contextlib.contextmanager
def caught_stderr() -> Iterator[list[str]]:
    """Collects what C++ writes to stderr, file descriptor 2, in place of showing it.

    It is in the list afterwards; another thread's output may be among it.
    """
    with _caught(2, sys.stderr) as caught:
        yield caught


@contextlib.contextmanager
def caught_stdout() -> Iterator[list[str]]:
    """The same of stdout, file descriptor 1."""
    with _caught(1, sys.stdout) as caught:
        yield caught


@contextlib.contextmanager
def _caught(descriptor: int, stream: TextIO) -> Iterator[list[str]]:
    caught: list[str] = []
    try:
        kept = os.dup(descriptor)
    except OSError:  # it is closed
        yield caught
        return
    with tempfile.TemporaryFile() as file:
        _flush(stream)
        os.dup2(file.fileno(), descriptor)
        try:
            yield caught
        finally:
            _flush(stream)
            os.dup2(kept, descriptor)
            os.close(kept)
            file.seek(0)
            caught.append(file.read().decode("utf-8", errors="replace"))


def _flush(stream: TextIO) -> None:
    """Flushes what Python holds back, and C: torch's exporter prints its graph from C++."""
    import ctypes

    stream.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)


def logged(line: str) -> tuple[str, str]:
    """Level and message of a line that ONNX Runtime logs, without colours, times and places.

    The level is one letter, empty where the line is none of its own.
    """
    plain = _COLOUR.sub("", line).strip()
    found = _LOGGED.fullmatch(plain)
    level, message = found.groups() if found else ("", plain)
    return str(level), str(message)


def _once(text: str) -> str:
    """A text in which each message of ONNX Runtime stands once."""
    kept: dict[str, str] = {}
    times: Counter[str] = Counter()
    for number, line in enumerate(text.splitlines(keepends=True)):
        level, message = logged(line)
        if not level:
            if _COLOUR.sub("", line).strip() or not kept:  # else what ends a colour
                kept[f"{number}"] = line
            continue
        key = f"{level} {_NUMBER.sub('0', message)}"
        times[key] += 1
        kept.setdefault(key, f"onnxruntime [{level}] {message}")
    return "".join(
        f"{line}{f' (said {times[key]} times)' * (times[key] > 1)}\n" if key in times else line
        for key, line in kept.items()
    )
