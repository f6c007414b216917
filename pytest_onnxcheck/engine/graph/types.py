"""Element types of a graph's values, also behind operators of which onnx knows nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.shapes import skeleton
from pytest_onnxcheck.engine.graph.walk import attributes, graphs

if TYPE_CHECKING:
    import onnx

__all__ = ["element_types"]

#: attributes that say the type of an output
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype", "output_datatype")

#: Of a node at an opset, what its inputs and outputs are of: a type, or a parameter's name.
Signature = Callable[["onnx.NodeProto", int], tuple[list[str], list[str]]]


def element_types(model: onnx.ModelProto, signature: Signature) -> dict[str, str]:
    """Value -> `float`, `int64`, ..., of tensors, as far as they are known.

    Args:
        model: The model; what it says of its values inside is not believed, but inferred.
        signature: Of operators that onnx does not know.
    """
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    found: dict[str, str] = {}
    for graph in graphs(_inferred(model)):
        values = (*graph.input, *graph.value_info, *graph.output)
        found.update((v.name, _named(v.type.tensor_type.elem_type)) for v in values)
        found.update((tensor.name, _named(tensor.data_type)) for tensor in graph.initializer)
    found = {name: kind for name, kind in found.items() if kind}
    for graph in graphs(model.graph):
        for node in graph.node:
            kinds = signature(node, opsets.get(node.domain, 1))
            for name, kind in _given(node, *kinds, found):
                found.setdefault(name, kind)
    return found


def _inferred(model: onnx.ModelProto) -> onnx.GraphProto:
    import onnx

    light = skeleton(model, {})
    known = {value.name for value in light.graph.input}
    tensors = {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        if value.name not in known | tensors:
            light.graph.input.append(value)
    with contextlib.suppress(Exception):  # what is wrong with a graph is for onnx.checker to say
        light = onnx.shape_inference.infer_shapes(light)
    return light.graph


def _given(
    node: onnx.NodeProto, inputs: list[str], outputs: list[str], types: dict[str, str]
) -> Iterator[tuple[str, str]]:
    """The types of a node's outputs that follow from its signature."""
    bound = {
        parameter: types[name]
        for parameter, name in zip(inputs, node.input, strict=False)
        if name in types
    }
    held = attributes(node)
    said = next((held[name] for name in _TYPE_ATTRIBUTES if name in held), None)
    for name, parameter in zip(node.output, outputs, strict=False):
        kind = bound.get(parameter) or (_named(said) if isinstance(said, int) else "")
        if not kind and parameter in _ELEMENTS:
            kind = parameter
        if name and kind:
            yield name, kind


#: what onnx calls them in schemas
_ELEMENTS = frozenset(
    [
        *("bool", "string", "float", "double", "float16", "bfloat16"),
        *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    ]
)


def _named(element: int) -> str:
    """`float` of 1; empty of what is no element type."""
    import onnx

    if not element or element not in onnx.TensorProto.DataType.values():
        return ""
    return str(onnx.TensorProto.DataType.Name(element)).lower()
