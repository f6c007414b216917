"""What walks a graph: its nodes, its tensors and the graphs inside it."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

__all__ = [
    "attributes",
    "constants",
    "dynamo_note",
    "graphs",
    "loaded_constants",
    "nodes_of",
    "reached",
    "reads",
    "tensors",
]


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the graphs inside it (If, Loop, Scan)."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from graphs(inner)


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """The nodes of a graph and of the graphs inside it, each followed by those inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes_of(inner)


def reads(node: onnx.NodeProto, but: Container[str] = ()) -> list[str]:
    """The names of the values a node reads, in the graphs inside it too, each once.

    Args:
        node: The node.
        but: Operators that are taken to read nothing.
    """
    names = dict.fromkeys(() if node.op_type in but else node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names.update(dict.fromkeys(reads(inner, but)))
            names.update(dict.fromkeys(value.name for value in graph.output))
    names.pop("", None)
    return list(names)


def reached(inputs: Iterable[str], graph: onnx.GraphProto, but: Container[str] = ()) -> set[str]:
    """Values that may depend on inputs; any other cannot, whatever the nodes compute.

    Args:
        inputs: Names of the inputs.
        graph: The graph.
        but: Operators whose outputs are taken to depend on nothing.
    """
    reads = [set(node.input) | {n for i in _inner(node) for n in i.input} for node in graph.node]
    found = set(inputs)
    known = -1
    while known < len(found):  # more than one pass only where nodes are out of order
        known = len(found)
        for node, read in zip(graph.node, reads, strict=True):
            if read & found and node.op_type not in but:
                found.update(node.output)
    return found


def _inner(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for attribute in node.attribute:
        for subgraph in (attribute.g, *attribute.graphs):
            yield from nodes_of(subgraph)


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    import onnx

    return {entry.name: onnx.helper.get_attribute_value(entry) for entry in node.attribute}


def constants(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Initializers and what Constant nodes hold, by the name of their value, subgraphs included."""
    for inner in graphs(graph):
        yield from ((tensor.name, tensor) for tensor in inner.initializer)
        for node in inner.node:
            if node.op_type == "Constant":
                yield from ((node.output[0], e.t) for e in node.attribute if e.name == "value")


def loaded_constants(path: Path) -> Iterator[tuple[str, onnx.TensorProto]]:
    """The constants of a file, with their values; external data is read one tensor at a time."""
    import onnx

    for name, tensor in constants(onnx.load(path, load_external_data=False).graph):
        if onnx.external_data_helper.uses_external_data(tensor):
            loaded = onnx.TensorProto()
            loaded.CopyFrom(tensor)
            onnx.external_data_helper.load_external_data_for_tensor(loaded, str(path.parent))
            loaded.data_location = onnx.TensorProto.DEFAULT
            yield name, loaded
        else:
            yield name, tensor


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Weights and tensor attributes, subgraphs included, in the file's order."""
    for inner in graphs(graph):
        yield from inner.initializer
        for node in inner.node:
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)


def dynamo_note(node: onnx.NodeProto, key: str) -> str | None:
    """What dynamo's exporter writes of a node under a key, such as `name_scopes`; None without."""
    held = {entry.key: entry.value for entry in node.metadata_props}
    return held.get(f"pkg.torch.onnx.{key}")
