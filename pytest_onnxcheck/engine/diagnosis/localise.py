"""Where an artefact and PyTorch part: the first node, layer and line whose value differs.

The fault lies where a node that is not clean reads only clean values (see `matching`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.diagnosis.matching import Matching
from pytest_onnxcheck.engine.diagnosis.origin import odd_constants, off_inputs, origin
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

#: how many operators of PyTorch's an exporter folds into one node: a convolution and its batch norm
_MOST_OPERATORS_FOLDED = 2


def localise(path: Path, oracle: Oracle, case: Case, *, safety: float) -> Divergence | None:
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
    opened = OpenedGraph(path, libraries=oracle.reference.model.operator_libraries)
    try:
        matching = Matching(opened, torch_side, case, safety)
    except RunError as error:
        return _refused_node(opened, str(error))
    names = list(oracle.reference.model.outputs)
    fault = _first_fault(matching)
    if fault is None:
        wrong = _wrong_output(matching, names)
        fault = _off_output(matching, names, safety) if wrong is None else None
        if fault is None:
            return wrong
    fault = _followed_back(matching, fault, safety)
    return _divergence(matching, fault, oracle.reference, safety)


@dataclass(frozen=True)
class _Fault:
    """The first wrong node.

    Attributes:
        node: The node.
        record: PyTorch's operator that reads the same values, or that its value is meant to be.
        ratio: How many noise floors the two are apart; None where that cannot be said.
    """

    node: onnx.NodeProto
    record: Record | None
    ratio: float | None = None


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
                return _Fault(node, record, _ratio(matching, node, record))
    for node in starts[:1]:
        meant = [matching.meant[name] for name in node.output if name in matching.meant]
        index, ratio = meant[0] if meant else (None, None)
        return _Fault(node, None if index is None else matching.trace.records[index], ratio)
    return None


def _off_output(matching: Matching, names: list[str], safety: float) -> _Fault | None:
    """The output that is farthest off, where each is PyTorch's up to the margin.

    Args:
        matching: Both sides.
        names: The declared outputs, in PyTorch's order.
        safety: How many noise floors an output may be away.
    """
    given = [value.name for value in matching.opened.graph.output]
    found = []
    for index, name in zip(matching.trace.outputs, names, strict=True):
        value = name if name in given else given[names.index(name)]
        meant, ratio = matching.meant.get(value, (None, 0.0))
        if index is None or meant != index:
            continue
        if ratio > safety and value in matching.opened.producers:
            record = matching.trace.records[index]
            found.append(_Fault(matching.opened.producers[value], record, ratio))
    return max(found, key=lambda fault: fault.ratio or 0.0, default=None)


def _followed_back(matching: Matching, fault: _Fault, safety: float) -> _Fault:
    """A fault, or the one that the first hands on."""
    ratio = 2 * safety if fault.ratio is None else fault.ratio
    node, index = origin(matching, fault.node, ratio, safety)
    if node is fault.node or index is None:
        return fault
    ratio = max(matching.meant[name][1] for name in node.output if name in matching.meant)
    return _Fault(node, matching.trace.records[index], ratio)


def _divergence(
    matching: Matching, fault: _Fault, reference: Reference, safety: float
) -> Divergence:
    """Describes a fault: by PyTorch's operator where there is one, else by the exporter's notes."""
    node, record = fault.node, fault.record
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
    node, odd = _odd(matching, node, reference, module)
    value = next(name for name in node.output if name)
    off = list(off_inputs(matching, node, safety))
    notes += [*off, odd, matching.trace.note]
    return Divergence(
        node=node.name or value,
        operator=node.op_type,
        value=value,
        module=module,
        torch_operator=operator,
        source=source,
        ratio=fault.ratio,
        inputs_inside=not off and not odd and matching.trace.in_float64,
        note="; ".join(filter(None, notes)),
    )


def _odd(
    matching: Matching, node: onnx.NodeProto, reference: Reference, module: str
) -> tuple[onnx.NodeProto, str]:
    """The node of a spread operator that has a constant of its own that is not the model's.

    Returns:
        The first such node, or the one given where there is none, and what is to be said of it.
    """
    ascribed = module_of(node, [module])
    for other in _behind(matching, node):
        if other is node or (ascribed is not None and module_of(other, [module]) == ascribed):
            odd = odd_constants(matching.opened, other, reference.module, module)
            if odd:
                return other, odd
        if any(name in matching.meant for name in other.output):
            break
    return node, ""


def _comes_before(matching: Matching, record: Record, path: str) -> bool:
    """Whether a record comes before anything the module at a path computes."""
    return all(
        record.index < other.index
        for other in matching.trace.records
        if other.module == path or other.module.startswith(f"{path}.")
    )


def _ratio(matching: Matching, node: onnx.NodeProto, record: Record) -> float | None:
    """How far the artefact is from a record, in noise floors; None where that cannot be said.

    An exporter may spread one operator over several nodes, and fold several operators into one. So
    the values of the wrong node and of those soon after it are looked at, beside the record and
    those made of it, and the nearest counts.
    """
    made = matching.trace.made_of(record.index, _MOST_OPERATORS_FOLDED)
    found = [
        ratio
        for other in _behind(matching, node)
        for name in other.output
        if name in matching.unmatched
        for index in made
        if (ratio := matching.trace.ratio(matching.unmatched[name], index, matching.unit))
        is not None
    ]
    return min(found, default=None)


def _behind(matching: Matching, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """A wrong node, and the wrong ones soon after it that read it, directly or not."""
    behind, number = set(node.output), 0
    for other in matching.dirty():
        if number < _MOST_NODES_BEHIND and (
            other is node or behind.intersection(matching.reads(other))
        ):
            behind.update(other.output)
            number += 1
            yield other


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
