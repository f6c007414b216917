"""Which nodes of an artefact have bfloat16 in them."""

from __future__ import annotations

import ast
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.walk import dynamo_note, nodes_of

if TYPE_CHECKING:
    import onnx

__all__ = ["Bfloat16", "find_bfloat16"]


@dataclass
class Bfloat16:
    """The nodes of an artefact by whether they read or give bfloat16.

    Attributes:
        held: Name -> what to say of a node that does: its operator, layer and weights. Casts are
            left out where any other node does.
        free: Names of the nodes that do not, as far as all their types are known.

    A node without a name is called by its first output.
    """

    held: dict[str, str] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)


def find_bfloat16(path: Path) -> Bfloat16:
    """Looks for bfloat16 in an artefact, whose weights' data is not read."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    types = _types(model.graph)
    with contextlib.suppress(Exception):  # what is wrong with a graph is for onnx.checker to say
        types |= _types(onnx.shape_inference.infer_shapes(model).graph)
    weights = {tensor.name for tensor in model.graph.initializer}
    found = Bfloat16()
    casts: dict[str, str] = {}
    for node in nodes_of(model.graph):
        held = {name: types.get(name) for name in (*node.input, *node.output) if name}
        wide = [name for name, kind in held.items() if kind == onnx.TensorProto.BFLOAT16]
        if wide:
            where = casts if node.op_type == "Cast" else found.held
            where[_name(node)] = _described(node, [name for name in wide if name in weights])
        elif None not in held.values():
            found.free.add(_name(node))
    found.held = found.held or casts
    return found


def _name(node: onnx.NodeProto) -> str:
    return node.name or next(filter(None, node.output), "")


def _types(graph: onnx.GraphProto) -> dict[str, int]:
    values = (*graph.input, *graph.output, *graph.value_info)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name: kind for name, kind in types.items() if kind}


def _described(node: onnx.NodeProto, weights: list[str]) -> str:
    about = [node.op_type]
    if layer := _layer(node):
        about.append(f"layer {layer!r}")
    if weights:
        about.append(f"weights {', '.join(weights)}")
    return f"node {_name(node)!r} ({', '.join(about)})"


def _layer(node: onnx.NodeProto) -> str:
    """The module that dynamo's exporter notes; TorchScript's has it in the node's name."""
    try:
        return str(ast.literal_eval(dynamo_note(node, "name_scopes") or "")[-2])
    except (SyntaxError, ValueError, IndexError):
        return ""
