"""Where an artefact and PyTorch part: the first node, layer and line whose value differs.

Nodes and PyTorch's operators are matched by the values they compute, not by their names, so that
it works for both exporters, for files of unknown origin, and after weights were folded. A node is
clean if PyTorch computes its value too, or if it leads to one that PyTorch computes; a record of
PyTorch's likewise. The fault lies where a node that is not clean reads only clean values.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pytest_onnxcheck.engine.diagnosis.trace import INPUT, Record, Trace, sketch, trace, users_file
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.compare import sqnr
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.measurement import Divergence, LayerLoss

if TYPE_CHECKING:
    import numpy as np
    import onnx

    Array = np.ndarray[Any, Any]

__all__ = ["layer_losses", "localise"]

_Value = TypeVar("_Value", int, str)

#: Operators whose outputs tell of their input's shape only.
_SHAPES = frozenset(["Shape", "Size"])

#: Operators that put elements into another order, and can put them into a wrong one.
_ORDERS = frozenset(
    """
    Concat DepthToSpace Gather GatherElements GatherND Reshape ReverseSequence ScatterElements
    ScatterND Slice SpaceToDepth Transpose
    """.split()  # noqa: SIM905 - a table of names
)

#: Operators that hold weights.
_WEIGHTED = frozenset(
    """
    Attention Conv ConvInteger ConvTranspose DynamicQuantizeLSTM DynamicQuantizeMatMul
    FusedConv FusedGemm FusedMatMul GRU Gemm LSTM MatMul MatMulInteger MatMulIntegerToFloat
    MultiHeadAttention QAttention QGemm QLinearConv QLinearMatMul RNN
    """.split()  # noqa: SIM905
)

#: how many layers of a quantized artefact are told
_LOSSES = 8

#: how many nodes behind the first wrong one may carry the value PyTorch's operator gives
_REACH = 8


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
    exposed = OpenedGraph(path)
    try:
        matching = _Matching(exposed, torch_side, case, safety)
    except RunError as error:
        return _refused(exposed, str(error))
    found = _first(matching)
    if found is None:
        return _at_an_output(matching, list(oracle.reference.model.outputs))
    modules = [name for name, _ in oracle.reference.module.named_modules()]
    return _described(matching, found, modules)


@dataclass
class _Found:
    """The first wrong node, and the operator of PyTorch's that reads the same values."""

    node: onnx.NodeProto
    record: Record | None


class _Matching:
    """Which values of an artefact are values of PyTorch's.

    Attributes:
        exposed: The artefact.
        trace: PyTorch's side.
        unit: Half a unit in the last place of the artefact's precision.
        matches: Value -> records it is equal to, for the values that depend on an input.
        clean: Values that are right.
        needed: Records that an output of the model depends on.
        reached: Records that the artefact computes, or that lead to one it computes.
        missed: Floating values equal to none, as far as memory allows.
    """

    def __init__(self, exposed: OpenedGraph, torch_side: Trace, case: Case, safety: float) -> None:
        self.exposed = exposed
        self.trace = torch_side
        self.matches: dict[str, list[int]] = {}
        self.missed: dict[str, Array] = {}
        #: values that PyTorch has in another order only
        self.reordered: dict[str, list[int]] = {}
        #: values equal to a record by more than accident
        self._proofs: set[str] = set()
        self._reads = {id(node): _reads(node) for node in exposed.nodes}
        self._variable = self._reach_forward()
        self._needed_values = {value.name for value in exposed.graph.output}
        self._live = self._reach_backward()
        self.needed = _needed(torch_side)
        self.unit = UNIT["fp16" if _is_half(exposed) else "fp32"]
        self._match(case, safety)
        self.reached = self._reached_records()
        self._distrust_orders()
        self.clean = self._clean_values()

    def reads(self, node: onnx.NodeProto) -> list[str]:
        """The values a node computes with that depend on an input of the model."""
        return [name for name in self._reads[id(node)] if name in self._variable]

    def dirty(self) -> Iterator[onnx.NodeProto]:
        """The nodes that are not clean and depend on an input, in topological order."""
        for node in self._live:
            used = self._variable.intersection(self._used(node))
            if not used <= self.clean:
                yield node

    def anchors(self, names: Iterable[str]) -> set[int]:
        """The records equal to the nearest values, at or before the given ones, that have any."""
        found: set[int] = set()
        pending, seen = deque(names), set()
        while pending:
            name = pending.popleft()
            if name in seen:
                continue
            seen.add(name)
            equal = self.matches.get(name) or self.reordered.get(name)
            if equal:
                found.update(equal)
            elif name in self.exposed.producers:
                pending.extend(self.reads(self.exposed.producers[name]))
        return found

    def _reach_forward(self) -> set[str]:
        """The values that depend on an input by more than its shape."""
        reached = set(self.exposed.inputs)
        for node in self.exposed.nodes:
            if node.op_type not in _SHAPES and reached.intersection(self._reads[id(node)]):
                reached.update(name for name in node.output if name)
        return reached

    def _reach_backward(self) -> list[onnx.NodeProto]:
        """The nodes that an output depends on, in topological order."""
        live = []
        for node in reversed(self.exposed.nodes):
            if self._needed_values.intersection(node.output):
                self._needed_values.update(self._reads[id(node)])
                live.append(node)
        return live[::-1]

    def _used(self, node: onnx.NodeProto) -> list[str]:
        """The outputs of a node that somebody reads."""
        return [name for name in node.output if name in self._needed_values]

    def _match(self, case: Case, safety: float) -> None:
        for name in self.exposed.inputs:
            if name in self.trace.named:
                self.matches[name] = [self.trace.named[name]]
        kept = 0.0
        wanted = [n for node in self._live for n in self._used(node) if n in self._variable]
        for name, value in self.exposed.values(case.inputs, wanted):
            same, reordered = self.trace.find(value, safety, self.unit)
            if same or reordered:
                self.matches[name] = same
                self.reordered[name] = reordered
                if sketch(value).telling:
                    self._proofs.add(name)
            elif value.dtype.kind == "f" and kept + value.nbytes < 256e6:
                kept += value.nbytes
                self.missed[name] = value

    def _reached_records(self) -> set[int]:
        """Records equal to a value of the artefact, and those that lead to one by no accident."""
        equal: set[int] = set(self.trace.named.values())
        proofs: set[int] = set()
        for name in self.matches:
            found = self.matches[name] or self.reordered[name]
            equal.update(found)
            proofs.update(found if name in self._proofs else ())
        return equal | self._leading_to(proofs)

    def _leading_to(self, indices: set[int]) -> set[int]:
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
        before = self._leading_to({index for equal in self.matches.values() for index in equal})
        for name, equal in self.reordered.items():
            producer = self.exposed.producers.get(name)
            wrong = {index for index in equal if index not in before}
            if wrong and producer is not None and producer.op_type in _ORDERS:
                self.reordered[name] = []
                self._proofs.discard(name)
                self.reached -= wrong

    def _clean_values(self) -> set[str]:
        """Values equal to a record, and those that lead to one by no accident."""
        steps = [(self._used(node), self.reads(node)) for node in self._live]
        equal = {name for name in self.matches if self.matches[name] or self.reordered.get(name)}
        given = [value.name for value in self.exposed.graph.output]
        return equal | set(self.exposed.inputs) | _settled(steps, self._proofs, given)

    @property
    def nothing(self) -> bool:
        """Whether no value that a node computes is certainly one of PyTorch's."""
        return not any(name in self.exposed.producers for name in self._proofs)


def _is_half(exposed: OpenedGraph) -> bool:
    import onnx

    half = onnx.TensorProto.FLOAT16
    return any(tensor.data_type == half for tensor in exposed.graph.initializer)


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
        given: The outputs, which are read by somebody of whom nothing is known.
    """
    settled = set(right)
    readers = Counter(name for _, inputs in steps for name in set(inputs))
    readers.update(name for name in given if name is not None)
    agreeing: Counter[_Value] = Counter()
    for outputs, inputs in reversed(steps):
        # all that read these come later, and were looked at
        settled.update(name for name in outputs if 0 < readers[name] == agreeing[name])
        if settled.issuperset(outputs):
            agreeing.update(set(inputs))
    return settled


def _first(matching: _Matching) -> _Found | None:
    """The first node that goes wrong, with what PyTorch does there."""
    starts = [
        node
        for node in matching.dirty()
        if all(name in matching.clean for name in matching.reads(node))
    ]
    anchors = [(node, matching.anchors(matching.reads(node))) for node in starts]
    for record in _missing(matching):
        before = _anchors(matching, record)
        for node, have in anchors:
            if have & before:
                return _Found(node, record)
    return _Found(starts[0], None) if starts else None


def _missing(matching: _Matching) -> list[Record]:
    """Records the artefact does not compute although it computes what they are made of."""
    records, reached = matching.trace.records, matching.reached
    variable: set[int] = set()
    for record in records:
        if record.operator == INPUT or variable.intersection(record.inputs):
            variable.add(record.index)
    return [
        record
        for record in records
        if record.index in matching.needed & variable
        and record.index not in reached
        and all(index in reached for index in record.inputs if index in variable)
    ]


def _anchors(matching: _Matching, record: Record) -> set[int]:
    """The nearest records before one that the artefact has a value for."""
    held = {index for equal in matching.matches.values() for index in equal}
    held.update(index for equal in matching.reordered.values() for index in equal)
    found: set[int] = set()
    pending, seen = list(record.inputs), set()
    while pending:
        index = pending.pop()
        if index in seen:
            continue
        seen.add(index)
        if index in held:
            found.add(index)
        else:
            pending.extend(matching.trace.records[index].inputs)
    return found


def _described(matching: _Matching, found: _Found, modules: list[str]) -> Divergence:
    node, record = found.node, found.record
    value = next(name for name in node.output if name)
    path = _module_of(node, modules)
    source, operator, notes = _stack_source(node), _fx_operator(node), []
    module = path or ""
    if record is not None and (path is None or _comes_before(matching, record, path)):
        if path:
            notes.append(f"the exporter ascribes the node to {path!r}")
        module, source, operator = record.module, record.source, record.operator
    elif record is not None and record.module == path:
        source, operator = record.source or source, record.operator
    ratio = None if record is None else _ratio(matching, node, record)
    if matching.nothing:
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
        ratio=ratio,
        note="; ".join(filter(None, notes)),
    )


def _comes_before(matching: _Matching, record: Record, path: str) -> bool:
    """Whether a record comes before anything the module at a path computes."""
    return all(
        record.index < other.index
        for other in matching.trace.records
        if other.module == path or other.module.startswith(f"{path}.")
    )


def _ratio(matching: _Matching, node: onnx.NodeProto, record: Record) -> float | None:
    """The error of the value that the node, or one soon after it, should have in common."""
    behind, found = set(node.output), []
    near = 0
    for other in matching.dirty():
        if other is not node and not behind.intersection(matching.reads(other)):
            continue
        behind.update(other.output)
        near += 1
        for name in other.output:
            if name in matching.missed:
                ratio = matching.trace.ratio(matching.missed[name], record.index, matching.unit)
                found += [] if ratio is None else [ratio]
        if near == _REACH:
            break
    return min(found, default=None)


def _at_an_output(matching: _Matching, names: list[str]) -> Divergence | None:
    """What is wrong where every value inside is PyTorch's: what is given out, and as what."""
    exposed = matching.exposed
    given = [value.name for value in exposed.graph.output]
    for index, name in zip(matching.trace.outputs, names, strict=True):
        value = name if name in given else given[names.index(name)]
        equal = matching.matches.get(value) or matching.reordered.get(value, [])
        if index is None or not equal or index in equal or value not in exposed.producers:
            continue
        node = exposed.producers[value]
        record = matching.trace.records[index]
        note = f"every value inside is PyTorch's, but output {name!r} is "
        note += _instead(matching, names, equal)
        return Divergence(
            node=node.name or value,
            operator=node.op_type,
            value=value,
            module=record.module,
            torch_operator=record.operator,
            source=record.source,
            note=note,
        )
    return None


def _instead(matching: _Matching, names: list[str], equal: list[int]) -> str:
    for other, index in zip(names, matching.trace.outputs, strict=True):
        if index in equal:
            return f"that of {other!r}"
    record = matching.trace.records[equal[0]]
    if record.operator == INPUT:
        return "an input of the model"
    where = f" in {record.module!r}" if record.module else ""
    return f"what {record.operator} gives{where}"


def _refused(exposed: OpenedGraph, text: str) -> Divergence | None:
    """The node ONNX Runtime names when it fails on one."""
    named = re.search(r"Name:\s*'([^']*)'|Node \(([^)]*)\)", text)
    name = next((part for part in named.groups() if part), "") if named else ""
    for node in exposed.nodes:
        if name and node.name == name:
            return Divergence(node.name, node.op_type, next(iter(node.output), ""), note=text)
    return None


def _module_of(node: onnx.NodeProto, modules: list[str]) -> str | None:
    """The module an exporter ascribes a node to; None where it says nothing."""
    held = {entry.key: entry.value for entry in node.metadata_props}
    scopes = held.get("pkg.torch.onnx.name_scopes")
    if scopes is not None:
        return _innermost(scopes, modules)
    if not node.name.startswith("/"):
        return None
    path = ""
    for part in node.name.split("/")[1:-1]:
        path = _inside(path, part, modules)
    return path


def _innermost(scopes: str, modules: list[str]) -> str | None:
    """The last of dynamo's scopes that is a module; the very last one is the operator."""
    try:
        listed = ast.literal_eval(scopes)
    except (SyntaxError, ValueError):
        return None
    found = [scope for scope in listed[:-1] if scope in modules]
    return found[-1] if found else None


def _inside(path: str, part: str, modules: list[str]) -> str:
    """The module below a path that a part of a TorchScript scope names.

    A part is the attribute's name, or the path from where a container was indexed; a module that
    is called again gets a number behind its name.
    """
    parents = [path]
    while parents[-1]:
        parents.append(parents[-1].rpartition(".")[0])
    for name in (part, re.sub(r"_\d+$", "", part)):
        for parent in parents:
            candidate = f"{parent}.{name}".lstrip(".")
            if candidate in modules:
                return candidate
    return path


def _stack_source(node: onnx.NodeProto) -> str:
    """`file:line` of the user's innermost frame in dynamo's stack trace."""
    held = {entry.key: entry.value for entry in node.metadata_props}
    frames = re.findall(r'File "([^"]+)", line (\d+)', held.get("pkg.torch.onnx.stack_trace", ""))
    users = [f"{file}:{line}" for file, line in frames if users_file(file)]
    return users[-1] if users else ""


def _fx_operator(node: onnx.NodeProto) -> str:
    held = {entry.key: entry.value for entry in node.metadata_props}
    target = re.search(r"target=torch\.ops\.(\w+\.\w+)", held.get("pkg.torch.onnx.fx_node", ""))
    return target.group(1) if target else ""


def _reads(node: onnx.NodeProto) -> list[str]:
    """What a node reads, and what the graphs inside it read from outside."""
    if node.op_type in _SHAPES:
        return []
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names += _reads(inner)
            names += [value.name for value in graph.output]
    return names


def layer_losses(
    float_path: Path, quantized_path: Path, inputs: Mapping[str, Array]
) -> tuple[LayerLoss, ...]:
    """How much of each layer's signal a quantized artefact keeps.

    Values are paired by name. Of a value that is quantized itself, what is read from it afterwards
    counts. Layers with weights are told; other values only where there are none.

    Args:
        float_path: The artefact it was made from.
        quantized_path: The quantized artefact.
        inputs: Arrays by input name.

    Returns:
        At most 8, the worst first.

    Raises:
        RunError: One of the two does not run on the inputs.
    """
    one, other = OpenedGraph(float_path), OpenedGraph(quantized_path)
    pairs = dict(_pairs(one, other))
    weighted = {name for name in pairs if _is_weighted(one, other, name)}
    names = [name for name in pairs if name in weighted] or list(pairs)
    exact = dict(one.values(inputs, names))
    found = []
    renamed = {pairs[name]: name for name in names}
    for value, array in other.values(inputs, list(renamed)):
        name = renamed[value]
        loss = sqnr(exact[name], array) if name in exact else None
        if loss is not None and loss < math.inf:
            found.append(LayerLoss(name, one.producers[name].op_type, loss))
    return tuple(sorted(found, key=lambda layer: layer.sqnr_db)[:_LOSSES])


def _pairs(one: OpenedGraph, other: OpenedGraph) -> Iterator[tuple[str, str]]:
    """Names in the float artefact and in the quantized one."""
    for name in one.producers:
        dequantized = f"{name}_DequantizeLinear_Output"
        if dequantized in other.producers:
            yield name, dequantized
        elif name in other.producers:
            yield name, name


def _is_weighted(one: OpenedGraph, other: OpenedGraph, name: str) -> bool:
    return any(
        name in side.producers and side.producers[name].op_type in _WEIGHTED
        for side in (one, other)
    )
