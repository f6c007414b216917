"""Small things that several tests ask for."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from pytest_onnxcheck.measurement import FileCheck
from pytest_onnxcheck.verdict import Finding, Verdict

FILE = FileCheck("net.onnx", "ab" * 32, 1_500_000, None, None)


def file(**changes: Any) -> FileCheck:
    """A file of 1.5 MB that is valid, but for what is changed."""
    return dataclasses.replace(FILE, **changes)


def only(verdict: Verdict) -> Finding:
    """The one finding of a verdict."""
    (finding,) = verdict.findings
    return finding


def line_of(text: str, source: str) -> int:
    """The number of the first line of a source that holds a text."""
    return next(n for n, line in enumerate(source.splitlines(), 1) if text in line)


def arrays_in(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of an .npz file, which is closed: left open, it is a warning of a later test."""
    with np.load(path) as opened:
        return dict(opened)
