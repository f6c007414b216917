"""Inputs without elements: ONNX Runtime may crash on them, and is asked in a child process first.

QLinearConv ends the process with a segmentation fault on a batch of 0 (1.32).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.runtime import sandbox
from pytest_onnxcheck.engine.runtime.worker import write_arrays

if TYPE_CHECKING:
    import numpy as np

    Arrays = Mapping[str, np.ndarray[Any, Any]]

__all__ = ["crash_on_empty", "has_empty"]

#: what was found out: artefact, how it is opened, and which axes are empty -> how it crashes
_known: dict[tuple[str, str, frozenset[tuple[str, int]]], str | None] = {}


def has_empty(inputs: Arrays) -> bool:
    """Whether one of the inputs has no elements."""
    return not all(array.size for array in inputs.values())


def crash_on_empty(model: str | bytes, opening: Mapping[str, object], inputs: Arrays) -> str | None:
    """How ONNX Runtime crashes or hangs on inputs of which one has no elements.

    It is asked once for each set of axes that are empty.

    Args:
        model: The artefact's path, or the artefact serialised.
        opening: The arguments of `worker.open_handle`.
        inputs: All of the artefact's inputs in its order, as it takes them.

    Returns:
        What to say of it; None where it does not, and where nothing is empty.
    """
    empty = frozenset(
        (name, axis)
        for name, array in inputs.items()
        for axis, size in enumerate(array.shape)
        if not size
    )
    if not empty:
        return None
    key = (_identity(model), repr(sorted(opening.items())), empty)
    if key not in _known:
        _known[key] = _asked(model, opening, inputs)
    return _known[key]


def _asked(model: str | bytes, opening: Mapping[str, object], inputs: Arrays) -> str | None:
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder, "inputs")
        write_arrays(str(arrays), inputs.values())
        path = Path(folder, "model.onnx") if isinstance(model, bytes) else Path(model)
        if isinstance(model, bytes):
            path.write_bytes(model)
        return sandbox.crash(path, opening, arrays)


def _identity(model: str | bytes) -> str:
    if isinstance(model, bytes):
        return hashlib.sha256(model).hexdigest()
    found = Path(model).stat()
    return f"{Path(model).absolute()} {found.st_mtime_ns} {found.st_size}"
