"""Outputs that never change: whatever is compared with them agrees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.walk import reached
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.oracle import Oracle

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["unvarying"]

#: from so few cases of one shape nothing follows
_FEWEST = 3


def unvarying(path: Path, oracle: Oracle, cases: Sequence[Case]) -> tuple[str, ...]:
    """Floating outputs that PyTorch gives alike, bit by bit, in all cases of one shape.

    What no node computes from the values of an input is left out: it is meant to be a constant.

    Args:
        path: The artefact.
        oracle: What the cases should give.
        cases: The cases, which PyTorch takes.
    """
    names = list(oracle.reference.model.outputs)
    found = [name for index, name in enumerate(names) if _alike(oracle, cases, index)]
    if not found:
        return ()
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value.name for value in graph.input if value.name not in constants]
    computed = reached(inputs, graph, but=("Shape", "Size"))
    return tuple(name for name in found if name in computed)


def _alike(oracle: Oracle, cases: Sequence[Case], index: int) -> bool:
    firsts: dict[tuple[int, ...], tuple[Case, Array]] = {}
    compared = 1
    for case in cases:
        own = oracle.expected(case).outputs[index]
        if own.dtype.kind != "f" or not own.size:
            return False
        first, usual = firsts.setdefault(own.shape, (case, own))
        if first is case or not _differ(first, case):
            continue
        if own.tobytes() != usual.tobytes():
            return False
        compared += 1
    return compared >= _FEWEST


def _differ(one: Case, other: Case) -> bool:
    return any(
        one.inputs[name].tobytes() != array.tobytes() for name, array in other.inputs.items()
    )
