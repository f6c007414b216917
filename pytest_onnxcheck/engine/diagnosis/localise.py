"""Where an artefact and PyTorch part: the first node, layer and line whose value differs.

The fault lies where a node that is not clean reads only clean values (see `matching`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.diagnosis.matching import Matching
from pytest_onnxcheck.engine.diagnosis.provenance import module_of, operator_of, source_of
from pytest_onnxcheck.engine.diagnosis.recorder import trace
from pytest_onnxcheck.engine.diagnosis.trace import INPUT, Record
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.measurement import Divergence

if TYPE_CHECKING:
    import onnx

__all__ = ["localise"]

#: how many nodes, from the first wrong one on, may carry the value PyTorch's operator gives
_MOST_NODES_BEHIND = 8


def localise(path: Path, oracle: Oracle, case: Case, *, safety: float = 8.0) -> Divergence | None:
    """Finds the first place inside an artefact whose value is not PyTorch's.

    Args:
        path: The artefact.
        oracle: Gives PyTorch's side.
        case: Inputs on which the artefact is wrong.
        safety: How many noise floors a value may be away.

    Returns:
        The place, or None where nothing differs that can be seen from outside an operator.

    Raises:
        Exception: PyTorch does not run on the case.
    """
    torch_side = trace(oracle, case)
    opened = OpenedGraph(path)
    try:
        matching = Matching(opened, torch_side, case, safety)
    except RunError as error:
        return _refused_node(opened, str(error))
    fault = _first_fault(matching)
    if fault is None:
        return _wrong_output(matching, list(oracle.reference.model.outputs))
    return _divergence(matching, fault, oracle.reference)


@dataclass(frozen=True)
class _Fault:
    """The first wrong node, and PyTorch's operator that reads the same values, if one does."""

    node: onnx.NodeProto
    record: Record | None


def _refused_node(opened: OpenedGraph, text: str) -> Divergence | None:
    """The node ONNX Runtime names when it fails on one."""
    named = re.search(r"Name:\s*'([^']*)'|Node \(([^)]*)\)", text)
    name = next((part for part in named.groups() if part), "") if named else ""
    for node in opened.nodes:
        if name and node.name == name:
            return Divergence(node.name, node.op_type, next(iter(node.output), ""), note=text)
    return None


def _first_fault(matching: Matching) -> _Fault | None:
    """The first node that goes wrong, with what PyTorch does there."""
    starts = [
        node
        for node in matching.dirty()
        if all(name in matching.clean for name in matching.reads(node))
    ]
    before = [(node, matching.records_before(node)) for node in starts]
    for record in matching.missing():
        computed = matching.computed_before(record)
        for node, records in before:
            if records & computed:
                return _Fault(node, record)
    return _Fault(starts[0], None) if starts else None


def _divergence(matching: Matching, fault: _Fault, reference: Reference) -> Divergence:
    """Describes a fault: by PyTorch's operator where there is one, else by the exporter's notes."""
    node, record = fault.node, fault.record
    value = next(name for name in node.output if name)
    ascribed = module_of(node, [name for name, _ in reference.module.named_modules()])
    source = source_of(node, reference.model.root)
    module, operator, notes = ascribed or "", operator_of(node), []
    if record is not None and (ascribed is None or _comes_before(matching, record, ascribed)):
        if ascribed:
            notes.append(f"the exporter ascribes the node to {ascribed!r}")
        module, source, operator = record.module, record.source, record.operator
    elif record is not None and record.module == ascribed:
        source, operator = record.source or source, record.operator
    if matching.proves_nothing:
        notes.append("unsure: no value that the artefact computes is one of PyTorch's")
    elif record is None:
        notes.append("no operator of PyTorch's could be set beside it")
    notes.append(matching.trace.note)
    return Divergence(
        node=node.name or value,
        operator=node.op_type,
        value=value,
        module=module,
        torch_operator=operator,
        source=source,
        ratio=None if record is None else _ratio(matching, node, record),
        note="; ".join(filter(None, notes)),
    )


def _comes_before(matching: Matching, record: Record, path: str) -> bool:
    """Whether a record comes before anything the module at a path computes."""
    return all(
        record.index < other.index
        for other in matching.trace.records
        if other.module == path or other.module.startswith(f"{path}.")
    )


def _ratio(matching: Matching, node: onnx.NodeProto, record: Record) -> float | None:
    """How far the artefact is from a record, in noise floors; None where that cannot be said.

    An exporter may spread one operator over several nodes. So the values of the wrong node and of
    those soon after it are looked at, and the nearest counts.
    """
    behind, found = set(node.output), []
    looked_at = 0
    for other in matching.dirty():
        if other is not node and not behind.intersection(matching.reads(other)):
            continue
        behind.update(other.output)
        looked_at += 1
        for name in other.output:
            if name in matching.unmatched:
                value = matching.unmatched[name]
                ratio = matching.trace.ratio(value, record.index, matching.unit)
                found += [] if ratio is None else [ratio]
        if looked_at == _MOST_NODES_BEHIND:
            break
    return min(found, default=None)


def _wrong_output(matching: Matching, names: list[str]) -> Divergence | None:
    """An output that is not the one declared, where every value inside is PyTorch's.

    Args:
        matching: Both sides.
        names: The declared outputs, in PyTorch's order.
    """
    opened = matching.opened
    given = [value.name for value in opened.graph.output]
    for index, name in zip(matching.trace.outputs, names, strict=True):
        value = name if name in given else given[names.index(name)]
        equal = matching.records_of(value)
        if index is None or not equal or index in equal or value not in opened.producers:
            continue
        node = opened.producers[value]
        record = matching.trace.records[index]
        instead = _given_instead(matching, names, equal)
        return Divergence(
            node=node.name or value,
            operator=node.op_type,
            value=value,
            module=record.module,
            torch_operator=record.operator,
            source=record.source,
            note=f"every value inside is PyTorch's, but output {name!r} is {instead}",
        )
    return None


def _given_instead(matching: Matching, names: list[str], equal: list[int]) -> str:
    """What an output is in place of the one declared, by the records it is equal to."""
    for other, index in zip(names, matching.trace.outputs, strict=True):
        if index in equal:
            return f"that of {other!r}"
    record = matching.trace.records[equal[0]]
    if record.operator == INPUT:
        return "an input of the model"
    where = f" in {record.module!r}" if record.module else ""
    return f"what {record.operator} gives{where}"
