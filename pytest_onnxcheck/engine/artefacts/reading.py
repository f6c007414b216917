"""Reads an `.onnx` that somebody gave: the one place where what is no artefact is turned away."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.faults import graph_faults
from pytest_onnxcheck.errors import ExportError
from pytest_onnxcheck.wording import one_line, several

if TYPE_CHECKING:
    import onnx

__all__ = ["read_model"]

#: faults that are told
_MOST = 3
#: how much of one is told: names in a file may be of any length
_LONGEST = 300


def read_model(path: Path) -> onnx.ModelProto:
    """Reads a file without its external data, so that what walks its graph may rely on it.

    Raises:
        ExportError: It is not there, no ONNX file, or its graph makes no sense.
    """
    import onnx

    if not path.is_file():
        raise ExportError(f"{path}: not found")
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise ExportError(f"{path}: not an ONNX file: {one_line(error)}") from error
    if not model.graph.node and not model.graph.output:
        raise ExportError(f"{path}: not an ONNX file: it has neither nodes nor outputs")
    faults = [one_line(fault, _LONGEST) for fault in graph_faults(model)]
    if faults:
        raise ExportError(f"{path}: not a valid ONNX file: {several(faults, _MOST)}")
    return model
