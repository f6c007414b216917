"""The first NaN or infinity inside an artefact: the node that makes it of what is finite.

It needs no floors, so that it works for every precision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.diagnosis.provenance import module_of, operator_of, source_of
from pytest_onnxcheck.engine.diagnosis.recorder import trace
from pytest_onnxcheck.engine.diagnosis.trace import Record, Trace
from pytest_onnxcheck.engine.graph.walk import constants, reads
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.measurement import Divergence

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["first_nonfinite"]

#: what is below it is 0 in float16
_SMALLEST_HALF = 2.0**-25


def first_nonfinite(path: Path, oracle: Oracle, case: Case, *, safety: float) -> Divergence | None:
    """Finds the node that the NaN, or else the infinities, of an artefact's outputs come from.

    Args:
        path: The artefact, in any precision.
        oracle: Gives PyTorch's side.
        case: Inputs on which it gives them.
        safety: How many noise floors apart a value and PyTorch's may be to be the same.

    Returns:
        The first of the nodes that make them of finite values; None where there is none.

    Raises:
        RunError: The artefact does not run on the case.
        Exception: PyTorch does not run on it.
    """
    opened = OpenedGraph(path, libraries=oracle.reference.model.operator_libraries)
    values = {name: _counts(array) for name, array in opened.values(case.inputs)}
    values |= {name: _counts(array) for name, array in case.inputs.items()}
    for number, what in enumerate(("NaN", "infinity")):
        odd = {name for name, counts in values.items() if counts[number]}
        node = _origin(opened, odd)
        if node is not None:
            return _divergence(opened, node, odd, oracle, case, what, safety)
    return None


def _counts(array: Array) -> tuple[int, int]:
    """Numbers of NaN and of infinities."""
    import numpy as np

    if array.dtype.kind != "f":
        return 0, 0
    return int(np.isnan(array).sum()), int(np.isinf(array).sum())


def _origin(opened: OpenedGraph, odd: set[str]) -> onnx.NodeProto | None:
    """The first node that gives an odd value, reads none, and leads to an odd output."""
    leading = {value.name for value in opened.graph.output} & odd
    found = None
    for node in reversed(opened.nodes):
        if leading.intersection(node.output):
            before = odd.intersection(reads(node))
            leading |= before
            found = found if before else node
    return found


def _divergence(
    opened: OpenedGraph,
    node: onnx.NodeProto,
    odd: set[str],
    oracle: Oracle,
    case: Case,
    what: str,
    safety: float,
) -> Divergence:
    """Describes the node, and what it reads where it goes wrong."""
    import numpy as np

    reference = oracle.reference
    value = next(name for name in node.output if name in odd)
    names = [name for name in node.input if name]
    found = dict(opened.values(case.inputs, {value, *names}))
    for name in names:
        if name in case.inputs:
            found[name] = case.inputs[name]
    found |= _constants(opened, names)
    bad = np.isnan(found[value]) if what == "NaN" else np.isinf(found[value])
    note = f"{what} in {int(bad.sum())} of {bad.size} elements, and what it reads holds none"
    index = tuple(np.argwhere(bad)[0].tolist())
    torch_side = trace(oracle, case)
    read = {name: found[name] for name in names if name in found}
    module = module_of(node, [name for name, _ in reference.module.named_modules()])
    operator, source = operator_of(node), source_of(node, reference.model.root)
    made = [record for record in torch_side.records if record.sketch.size == bad.size]
    if operator:
        made = [each for each in made if (each.operator, each.source) == (operator, source)][:1]
    else:  # the tracer's exporter notes modules only
        before = {index for array in read.values() for index in _same(torch_side, array, safety)}
        made = [each for each in made if before.intersection(each.inputs)]
        made = [each for each in made if module in (None, each.module)][-1:]
    record = made[0] if made else None
    told = _told(torch_side, record, read, index, bad.shape, safety)
    return Divergence(
        node=node.name or value,
        operator=node.op_type,
        value=value,
        module=module or (record.module if record is not None else ""),
        torch_operator=operator or (record.operator if record is not None else ""),
        source=source or (record.source if record is not None else ""),
        note=f"{note}: at {list(index)} {told}" if told else note,
    )


def _constants(opened: OpenedGraph, names: list[str]) -> dict[str, Array]:
    import onnx

    folder = str(opened.path.parent)
    return {
        name: onnx.numpy_helper.to_array(tensor, folder)
        for name, tensor in constants(opened.graph)
        if name in names
    }


def _told(
    torch_side: Trace,
    record: Record | None,
    read: Mapping[str, Array],
    index: tuple[int, ...],
    shape: tuple[int, ...],
    safety: float,
) -> str:
    """The elements of the values read that one element is made of, with PyTorch's beside them.

    Args:
        torch_side: PyTorch's values.
        record: What PyTorch computes there, where that is known.
        read: The values that are read.
        index: The element's place.
        shape: Its array's shape; what is not as large is broadcast, and else left out.
        safety: How many noise floors apart two equal values may be.
    """
    import numpy as np

    parts, lost = [], False
    for place, (name, array) in enumerate(read.items()):
        if not _broadcasts(array.shape, shape):
            continue  # not element by element
        element = float(np.broadcast_to(array, shape)[index])
        text = f"{name!r} is {element:.6g}"
        before = _record_of(torch_side, record, array, place, len(read), safety)
        if before is not None and before.value is not None:
            exact = float(np.broadcast_to(before.value.reshape(array.shape), shape)[index])
            if not math.isclose(exact, element, rel_tol=0.01):
                text += f" (PyTorch has {exact:.6g})"
                lost = lost or (element == 0 and abs(exact) < _SMALLEST_HALF)
        parts.append(text)
    if lost:
        parts[-1] += (
            "; float16 has no number that small: use a larger one (an eps), or keep this in float32"
        )
    return ", ".join(parts)


def _record_of(
    torch_side: Trace, record: Record | None, array: Array, place: int, number: int, safety: float
) -> Record | None:
    """The record of a value that is read: by what PyTorch reads there, or else by its elements."""
    if record is not None and len(record.inputs) == number:
        before = torch_side.records[record.inputs[place]]
        if before.sketch.size == array.size:
            return before
    same = _same(torch_side, array, safety)
    return torch_side.records[same[0]] if same else None


def _same(torch_side: Trace, array: Array, safety: float) -> list[int]:
    """Indices of the records that hold a value."""
    import numpy as np

    unit = UNIT["fp16" if array.dtype == np.float16 else "fp32"]
    return torch_side.find(array, safety, unit)[0]


def _broadcasts(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether an array of one shape can be broadcast to another."""
    sizes = zip(reversed(shape), reversed(whole), strict=False)
    return len(shape) <= len(whole) and all(one in (1, other) for one, other in sizes)
