"""What is wrong with a graph as such: no exporter writes it, and who walks a graph relies on it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.walk import graphs, nodes_of
from pytest_onnxcheck.wording import several

if TYPE_CHECKING:
    import onnx

__all__ = ["graph_faults", "tensor_bytes"]

#: bits of the types that are packed
_PACKED = {"INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4, "INT2": 2, "UINT2": 2}
#: elements of at most so many bits lie in an entry of a list of numbers
_MOST_IN_ENTRY = 16


def graph_faults(model: onnx.ModelProto) -> list[str]:
    """Names, attributes, types, shapes and weights that mean nothing, and circles; a sentence each.

    Nothing is read but the model itself; weights in external data are left out.
    """
    return [
        *_of_texts(model),
        *_of_names(model),
        *_of_attributes(model.graph),
        *_of_types(model.graph),
        *_of_tensors(model.graph),
        *_of_order(model.graph),
        *_of_functions(model),
    ]


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of a tensor's data, from its shape and type; types of 2 and 4 bits are packed.

    Raises:
        ValueError: Its type is none of ONNX's.
    """
    import onnx

    kind = onnx.TensorProto.DataType.Name(tensor.data_type)
    whole: int = 8 * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    count: int = math.prod(tensor.dims)
    return (count * _PACKED.get(kind, whole) + 7) // 8


def _of_texts(message: Any) -> Iterator[str]:
    """Texts that are no UTF-8, which protobuf gives as bytes."""
    if message.DESCRIPTOR.name == "TensorProto":  # to list its fields copies its data
        names = message.DESCRIPTOR.fields_by_name
        fields = [(names[name], getattr(message, name)) for name in ("name", "external_data")]
    else:
        fields = message.ListFields()
    for field, value in fields:
        if field.type == field.TYPE_STRING:
            for text in [value] if isinstance(value, str | bytes) else value:
                if isinstance(text, bytes):
                    yield f"{field.name} {text!r} is no UTF-8"
        elif field.type == field.TYPE_MESSAGE:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _of_texts(inner)


def _of_names(model: onnx.ModelProto) -> Iterator[str]:
    import onnx

    graph = model.graph
    opset = max((e.version for e in model.opset_import if e.domain in ("", "ai.onnx")), default=1)
    for what, values in (("input", graph.input), ("output", graph.output)):
        for name, count in Counter(value.name for value in values).items():
            if count > 1:
                yield f"{count} {what}s are called {name!r}"
    for node in nodes_of(graph):
        if node.domain not in ("", "ai.onnx"):
            continue
        try:
            schema = onnx.defs.get_schema(node.op_type, opset, "")
        except Exception:  # the checker says that there is no such operator
            continue
        for what, names, least in (
            ("inputs", node.input, schema.min_input),
            ("outputs", node.output, schema.min_output),
        ):
            if len(names) < least:
                yield f"node {_named(node)} has {len(names)} {what}, {node.op_type} has {least}"


def _of_attributes(graph: onnx.GraphProto) -> Iterator[str]:
    import onnx

    for node in nodes_of(graph):
        for attribute in node.attribute:
            what = f"attribute {attribute.name!r} of node {_named(node)}"
            if attribute.type == onnx.AttributeProto.UNDEFINED:
                yield f"{what} has no type"
                continue
            try:
                onnx.helper.get_attribute_value(attribute)
            except Exception as error:  # it stands for an argument of a function, for one
                yield f"{what}: {error}"


def _of_types(graph: onnx.GraphProto) -> Iterator[str]:
    for inner in graphs(graph):
        for value in (*inner.input, *inner.output, *inner.value_info):
            number = value.type.tensor_type.elem_type
            if not _known(number):
                yield f"the element type of {value.name!r} is {number}, which ONNX does not have"


def _of_tensors(graph: onnx.GraphProto) -> Iterator[str]:
    import onnx

    for tensor in _tensors(graph):
        shape = list(tensor.dims)
        if not tensor.data_type or not _known(tensor.data_type):
            kind = tensor.data_type
            yield f"the element type of tensor {tensor.name!r} is {kind}, which ONNX does not have"
        elif any(size < 0 for size in shape):
            yield f"tensor {tensor.name!r} has the shape {shape}"
        elif tensor.data_location != onnx.TensorProto.EXTERNAL and (held := _held(tensor)):
            yield f"tensor {tensor.name!r} has the shape {shape}, and data for {held} elements"


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Weights and tensor attributes that are there: a field that is not reads as an empty one."""
    for inner in graphs(graph):
        yield from inner.initializer
        for node in inner.node:
            for attribute in node.attribute:
                yield from (*([attribute.t] if attribute.HasField("t") else ()), *attribute.tensors)


def _held(tensor: onnx.TensorProto) -> str | None:
    """How many elements a tensor has data for, where these are fewer than its shape asks for."""
    count = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        needed, there = tensor_bytes(tensor), len(tensor.raw_data)
        return None if there >= needed else str(there * count // needed)
    lists = ("float", "int32", "int64", "double", "uint64", "string")
    entries = sum(len(getattr(tensor, f"{kind}_data")) for kind in lists)
    return None if entries * _MOST_IN_ENTRY >= count else f"at most {entries * _MOST_IN_ENTRY}"


def _of_order(graph: onnx.GraphProto) -> Iterator[str]:
    """Nodes that wait for their own outputs."""
    for inner in graphs(graph):
        nodes = list(inner.node)
        waiting: dict[str, list[int]] = {}
        missing = []
        made = {name for node in nodes for name in node.output if name}
        for number, node in enumerate(nodes):
            needed = [name for name in _needed(node) if name in made]
            missing.append(len(needed))
            for name in needed:
                waiting.setdefault(name, []).append(number)
        ready = [number for number, count in enumerate(missing) if not count]
        for number in ready:  # grows meanwhile
            for name in nodes[number].output:
                for follower in waiting.pop(name, ()):
                    missing[follower] -= 1
                    if not missing[follower]:
                        ready.append(follower)
        if len(ready) < len(nodes):
            left = [_named(nodes[number]) for number, count in enumerate(missing) if count]
            yield f"nodes wait for one another in a circle: {several(left)}"


def _of_functions(model: onnx.ModelProto) -> Iterator[str]:
    """Functions that cannot stand in the place of their calls: in circles, called with too much."""
    import onnx.inliner

    if model.functions:
        try:
            onnx.inliner.inline_local_functions(model)
        except Exception as error:  # an assertion names the line of onnx's that it is in
            yield f"its functions cannot be inlined: {str(error).rpartition(' failed: ')[2]}"


def _needed(node: onnx.NodeProto) -> set[str]:
    """The values that a node waits for, those of the graphs inside it that they do not make."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            own = {value.name for value in (*graph.input, *graph.initializer)}
            own.update(name for inner in graph.node for name in inner.output)
            inside = {name for inner in graph.node for name in _needed(inner)}
            names |= (inside | {value.name for value in graph.output}) - own
    return names


def _known(number: int) -> bool:
    import onnx

    return number in onnx.TensorProto.DataType.values()


def _named(node: onnx.NodeProto) -> str:
    return repr(node.name or next(iter(node.output), "") or node.op_type)
