"""What an `.onnx` file holds and says of itself; no session is opened."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.external import data_faults
from pytest_onnxcheck.engine.artefacts.reading import read_model
from pytest_onnxcheck.engine.graph.runtimes import oldest_onnxruntime, uses
from pytest_onnxcheck.engine.graph.walk import attributes, nodes_of, tensors
from pytest_onnxcheck.measurement import HashedFile, TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = ["Contents", "Node", "contents"]

#: absolute paths of a user's or a build machine's folders; what a model's own names hold is none
_PATH = re.compile(
    r"(?<![\w./:-])(?:/(?:home|root|Users|mnt|tmp|var|opt|srv|data|workspace|builds?)/[\w.+@/-]+"
    r"|[A-Za-z]:\\[\w.+@\\-]+)"
)


@dataclass(frozen=True)
class Node:
    """A node of the graph.

    Attributes:
        name: Its name; may be empty.
        operator: Its type, with the domain unless that is ai.onnx.
        inputs: Names of its inputs.
        outputs: Names of its outputs.
    """

    name: str
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """What an artefact holds.

    Attributes:
        path: The file.
        inputs: Inputs with type and shape; a dim without a name or size is `?`.
        outputs: Likewise.
        opsets: Domain -> version; ai.onnx under that name.
        ir_version: Version of the file format.
        producer: Who wrote it, and in which version.
        parameters: Elements of all weights.
        size_bytes: Bytes on disk, external data included.
        files: The `.onnx`, then its external data, each with bytes and SHA-256.
        data_faults: What is wrong with the external data; empty where nothing is.
        operators: Operator -> how often, the most frequent first.
        metadata: What the exporter or its user noted, by key.
        leaked_paths: Folders of the machine that built it, as they stand in the file.
        oldest_onnxruntime: The oldest ONNX Runtime that loads it, by the table of
            `graph/runtimes`; None where its newest does not.
        nodes: The nodes, in the order of the file.
    """

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opsets: dict[str, int]
    ir_version: int
    producer: str
    parameters: int
    size_bytes: int
    files: tuple[HashedFile, ...]
    data_faults: tuple[str, ...]
    operators: dict[str, int]
    metadata: dict[str, str]
    leaked_paths: tuple[str, ...]
    oldest_onnxruntime: str | None
    nodes: tuple[Node, ...]


def contents(path: Path) -> Contents:
    """Reads an `.onnx`; its external data is hashed and not loaded.

    Raises:
        ExportError: It is not there, no ONNX file, or its graph makes no sense.
    """
    model = read_model(path)
    artefact = Artefact.given(path)
    graph = model.graph
    constants = {tensor.name for tensor in graph.initializer}
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    nodes = tuple(
        Node(node.name, _operator(node), tuple(node.input), tuple(node.output))
        for node in nodes_of(graph)
    )
    return Contents(
        path=path,
        inputs=tuple(_spec(value) for value in graph.input if value.name not in constants),
        outputs=tuple(map(_spec, graph.output)),
        opsets=opsets,
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        parameters=sum(_elements(tensor) for tensor in tensors(graph)),
        size_bytes=artefact.size_bytes,
        files=artefact.files,
        data_faults=tuple(data_faults(path)),
        operators=dict(Counter(node.operator for node in nodes).most_common()),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        leaked_paths=tuple(dict.fromkeys(_leaked(model))),
        oldest_onnxruntime=oldest_onnxruntime(uses(model)),
        nodes=nodes,
    )


def _operator(node: onnx.NodeProto) -> str:
    return f"{node.domain}::{node.op_type}" if node.domain else str(node.op_type)


def _spec(value: onnx.ValueInfoProto) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    shape = tuple(
        dim.dim_value if dim.HasField("dim_value") else dim.dim_param or "?"
        for dim in tensor.shape.dim
    )
    kind = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return TensorSpec(value.name, {"float": "float32", "double": "float64"}.get(kind, kind), shape)


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _leaked(model: onnx.ModelProto) -> Iterator[str]:
    """Absolute paths in names, notes and attributes of a model and its nodes."""
    for text in _texts(model):
        yield from _PATH.findall(text)


def _texts(model: onnx.ModelProto) -> Iterator[str]:
    yield from (model.doc_string, model.producer_name, model.graph.doc_string, model.graph.name)
    yield from (entry.value for entry in model.metadata_props)
    yield from (entry.value for entry in getattr(model.graph, "metadata_props", ()))
    for node in nodes_of(model.graph):
        yield from (node.doc_string, node.name)
        yield from (entry.value for entry in node.metadata_props)
        yield from (
            os.fsdecode(value) for value in attributes(node).values() if isinstance(value, bytes)
        )
    for tensor in tensors(model.graph):
        yield from (tensor.name, tensor.doc_string)
