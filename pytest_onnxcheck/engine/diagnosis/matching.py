"""Which values of an artefact are values of PyTorch's.

Nodes and PyTorch's operators are matched by the values they compute, not by their names, so that
it works for both exporters, for files of unknown origin, and after weights were folded. A node is
clean if PyTorch computes its value too, or if it leads to one that PyTorch computes. A record of
PyTorch's is reached if the artefact computes it too, or if it leads to one that it computes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_onnxcheck.engine.diagnosis.trace import INPUT, Record, Trace, sketch
from pytest_onnxcheck.engine.graph.walk import reads
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.engine.runtime.values import OpenedGraph

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["Matching"]

_Value = TypeVar("_Value", int, str)

#: Operators whose outputs depend on their input's shape only.
_SHAPE_ONLY = frozenset(["Shape", "Size"])

#: Operators that put elements into another order, and can put them into a wrong one.
_REORDERING = frozenset(
    """
    Concat DepthToSpace Gather GatherElements GatherND Reshape ReverseSequence ScatterElements
    ScatterND Slice SpaceToDepth Transpose
    """.split()  # noqa: SIM905 - a table of names
)

#: how many bytes of values that match nothing are kept
_KEPT_BYTES = 256e6


class _Flow:
    """How values flow through an artefact: from its inputs, and to its outputs.

    Attributes:
        variable: The values that depend on an input by more than its shape.
        live: The nodes that an output depends on, in topological order.
    """

    def __init__(self, opened: OpenedGraph) -> None:
        self._reads = {id(node): reads(node, but=_SHAPE_ONLY) for node in opened.nodes}
        self.variable = set(opened.inputs)
        for node in opened.nodes:
            if node.op_type not in _SHAPE_ONLY and self.variable.intersection(self.reads(node)):
                self.variable.update(name for name in node.output if name)
        self.live: list[onnx.NodeProto] = []
        self._needed = {value.name for value in opened.graph.output}
        for node in reversed(opened.nodes):
            if self._needed.intersection(node.output):
                self._needed.update(self._reads[id(node)])
                self.live.append(node)
        self.live.reverse()

    def reads(self, node: onnx.NodeProto) -> list[str]:
        """The values a node computes with that depend on an input of the model."""
        return [name for name in self._reads[id(node)] if name in self.variable]

    def used(self, node: onnx.NodeProto) -> list[str]:
        """The outputs of a node that another node reads, or that the artefact gives."""
        return [name for name in node.output if name in self._needed]


class Matching:
    """Which values of an artefact are values of PyTorch's, and what follows for all the others.

    Attributes:
        opened: The artefact.
        trace: PyTorch's side.
        unit: Half a unit in the last place of the artefact's precision.
        same: Value -> indices of the records with the same elements in the same order, for the
            values that depend on an input.
        reordered: Value -> indices of the records with the same elements in another order.
        unmatched: Floating values equal to no record, as far as memory allows.
        meant: Value -> the record that it is or is meant to be, and how far from it it is, in
            noise floors. Values that were compared with no record are not in it.
        clean: Values that are right.
        needed: Records that an output of the model depends on.
        reached: Records that the artefact computes, or that lead to one it computes.
    """

    def __init__(self, opened: OpenedGraph, torch_side: Trace, case: Case, safety: float) -> None:
        """Runs the artefact, and compares each of its values with PyTorch's.

        Args:
            opened: The artefact.
            torch_side: What PyTorch computes on the case.
            case: The inputs.
            safety: How many noise floors apart equal values may be.

        Raises:
            RunError: ONNX Runtime refuses the artefact or the inputs.
        """
        self.opened = opened
        self.trace = torch_side
        self.unit = UNIT["fp16" if _is_half(opened) else "fp32"]
        self.same: dict[str, list[int]] = {}
        self.reordered: dict[str, list[int]] = {}
        self.unmatched: dict[str, Array] = {}
        self.meant: dict[str, tuple[int, float]] = {}
        #: values whose equal record is no accident
        self._proofs: set[str] = set()
        self._flow = _Flow(opened)
        self._match(case, safety)
        self.needed = _needed(torch_side)
        self.reached = self._reached_records()
        self._distrust_orders()
        self.clean = self._clean_values()

    @property
    def proves_nothing(self) -> bool:
        """Whether no value that a node computes is certainly one of PyTorch's."""
        return not any(name in self.opened.producers for name in self._proofs)

    def reads(self, node: onnx.NodeProto) -> list[str]:
        """The values a node computes with that depend on an input of the model."""
        return self._flow.reads(node)

    def records_of(self, name: str) -> list[int]:
        """Indices of the records equal to a value, in the same order or else in another."""
        return self.same.get(name) or self.reordered.get(name, [])

    def dirty(self) -> Iterator[onnx.NodeProto]:
        """The nodes that are not clean and depend on an input, in topological order."""
        for node in self._flow.live:
            computed = self._flow.variable.intersection(self._flow.used(node))
            if not computed <= self.clean:
                yield node

    def missing(self) -> list[Record]:
        """Records the artefact does not compute although it computes what they are made of."""
        records = self.trace.records
        variable: set[int] = set()
        for record in records:
            if record.operator == INPUT or variable.intersection(record.inputs):
                variable.add(record.index)
        return [
            record
            for record in records
            if record.index in self.needed & variable
            and record.index not in self.reached
            and all(index in self.reached for index in record.inputs if index in variable)
        ]

    def records_before(self, node: onnx.NodeProto) -> set[int]:
        """The nearest records before a node: those equal to what it reads.

        Where a value that it reads equals none, what that one is computed from counts.
        """
        found: set[int] = set()
        pending, seen = deque(self.reads(node)), set()
        while pending:
            name = pending.popleft()
            if name in seen:
                continue
            seen.add(name)
            equal = self.records_of(name)
            if equal:
                found.update(equal)
            elif name in self.opened.producers:
                pending.extend(self.reads(self.opened.producers[name]))
        return found

    def computed_before(self, record: Record) -> set[int]:
        """The nearest records before one that the artefact has a value for."""
        computed = {index for equal in self.same.values() for index in equal}
        computed.update(index for equal in self.reordered.values() for index in equal)
        found: set[int] = set()
        pending, seen = list(record.inputs), set()
        while pending:
            index = pending.pop()
            if index in seen:
                continue
            seen.add(index)
            if index in computed:
                found.add(index)
            else:
                pending.extend(self.trace.records[index].inputs)
        return found

    def _match(self, case: Case, safety: float) -> None:
        """Looks for every value among PyTorch's."""
        for name in self.opened.inputs:
            if name in self.trace.inputs:
                self.same[name] = [self.trace.inputs[name]]
                self.meant[name] = self.trace.inputs[name], 0.0
        flow = self._flow
        wanted = [n for node in flow.live for n in flow.used(node) if n in flow.variable]
        kept = 0
        for name, value in self.opened.values(case.inputs, wanted):
            same, reordered = self.trace.find(value, safety, self.unit)
            if same or reordered:
                self.same[name] = same
                self.reordered[name] = reordered
                self._compare(name, value, same or reordered, ordered=bool(same))
                if sketch(value).distinctive:
                    self._proofs.add(name)
            elif value.dtype.kind == "f":
                if (near := self.trace.nearest(value, self.unit)) is not None:
                    self.meant[name] = near
                if kept + value.nbytes < _KEPT_BYTES:
                    kept += value.nbytes
                    self.unmatched[name] = value

    def _compare(self, name: str, value: Array, equal: list[int], *, ordered: bool) -> None:
        """Notes how far a value is from the nearest of the records it is equal to."""
        if value.dtype.kind != "f":
            self.meant[name] = equal[0], 0.0
            return
        ratios = [
            (ratio, index)
            for index in equal
            if (ratio := self.trace.ratio(value, index, self.unit, ordered=ordered)) is not None
        ]
        if ratios:
            self.meant[name] = min(ratios)[::-1]

    def _reached_records(self) -> set[int]:
        """Records equal to a value of the artefact, and those that lead to one by no accident."""
        equal: set[int] = set(self.trace.inputs.values())
        proven: set[int] = set()
        for name in self.same:
            found = self.records_of(name)
            equal.update(found)
            proven.update(found if name in self._proofs else ())
        return equal | self._leading_to(proven)

    def _leading_to(self, indices: set[int]) -> set[int]:
        """Records that must be right, since everything computed from them is."""
        steps = [
            ([record.index], list(record.inputs))
            for record in self.trace.records
            if record.index in self.needed
        ]
        return _settled(steps, indices, self.trace.outputs)

    def _distrust_orders(self) -> None:
        """Takes back what an operator put into an order that PyTorch has not.

        An exporter may use other layouts than PyTorch. But where PyTorch puts the same elements
        into an order that the artefact never has, and goes on from there, that order is missing.
        """
        in_order = self._leading_to({index for equal in self.same.values() for index in equal})
        for name, equal in self.reordered.items():
            producer = self.opened.producers.get(name)
            wrong = {index for index in equal if index not in in_order}
            if wrong and producer is not None and producer.op_type in _REORDERING:
                self.reordered[name] = []
                self._proofs.discard(name)
                self.reached -= wrong

    def _clean_values(self) -> set[str]:
        """Values equal to a record, and those that lead to one by no accident."""
        steps = [(self._flow.used(node), self.reads(node)) for node in self._flow.live]
        equal = {name for name in self.same if self.records_of(name)}
        outputs = [value.name for value in self.opened.graph.output]
        return equal | set(self.opened.inputs) | _settled(steps, self._proofs, outputs)


def _is_half(opened: OpenedGraph) -> bool:
    """Whether an artefact has float16 weights."""
    import onnx

    half = onnx.TensorProto.FLOAT16
    return any(tensor.data_type == half for tensor in opened.graph.initializer)


def _needed(torch_side: Trace) -> set[int]:
    """The records that an output of the model depends on."""
    needed = {index for index in torch_side.outputs if index is not None}
    for record in reversed(torch_side.records):
        if record.index in needed:
            needed.update(record.inputs)
    return needed


def _settled(
    steps: list[tuple[list[_Value], list[_Value]]],
    right: set[_Value],
    given: Iterable[_Value | None],
) -> set[_Value]:
    """The values that must be right, since everything computed from them is.

    Args:
        steps: Outputs and inputs of every operator that an output depends on, in order.
        right: The values known to be right.
        given: The outputs. They count as read by something that is not known to be right.
    """
    settled = set(right)
    readers = Counter(name for _, inputs in steps for name in set(inputs))
    readers.update(name for name in given if name is not None)
    right_readers: Counter[_Value] = Counter()
    for outputs, inputs in reversed(steps):
        # everything that reads these comes later in the graph, and was looked at
        settled.update(name for name in outputs if 0 < readers[name] == right_readers[name])
        if settled.issuperset(outputs):
            right_readers.update(set(inputs))
    return settled
