"""Shapes and types of a graph's values, inferred without a session and without weights' data."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.folding import fold_sizes
from pytest_onnxcheck.engine.graph.operators import SHAPE_STAND_INS
from pytest_onnxcheck.engine.graph.walk import attributes

if TYPE_CHECKING:
    import onnx

    Shape = tuple[int, ...]
    Shapes = Mapping[str, Shape]

__all__ = ["inferred", "skeleton", "unpacked", "value_bytes"]

#: bytes of initializers that shape inference may read: sizes, axes and indices are smaller
_SMALL = 1024


def skeleton(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> onnx.ModelProto:
    """A model with the inputs' actual shapes, and without the data of its weights.

    Args:
        model: The model.
        shapes: Shapes by input name.
    """
    import onnx

    light = onnx.ModelProto(ir_version=model.ir_version)
    light.opset_import.extend(model.opset_import)
    light.functions.extend(model.functions)
    light.graph.name = model.graph.name
    light.graph.node.extend(model.graph.node)
    for value in model.graph.output:
        kind = onnx.ValueInfoProto()
        kind.CopyFrom(value)
        kind.type.tensor_type.ClearField("shape")
        light.graph.output.append(kind)
    for value in model.graph.input:
        if value.name in shapes:
            kind = onnx.helper.make_tensor_value_info(
                value.name, value.type.tensor_type.elem_type, shapes[value.name]
            )
            light.graph.input.append(kind)
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= _SMALL:
            light.graph.initializer.append(tensor)
        else:
            kind = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            light.graph.input.append(kind)
    return light


def value_bytes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Bytes of every value whose shape can be inferred.

    Args:
        model: The model.
        shapes: Shapes of its inputs by name.
    """
    import onnx

    try:
        light = skeleton(model, shapes)
        graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    except Exception:  # an invalid or exotic graph: then nothing is known of its sizes
        return {}
    known = (_bytes(value) for value in (*graph.value_info, *graph.output))
    return {name: size for name, size in known if size is not None}


def inferred(
    path: Path, inputs: Mapping[str, Shape]
) -> tuple[onnx.GraphProto, dict[str, Shape], dict[str, int]]:
    """The graph of an artefact, with what onnx's shape inference finds.

    Operators of ONNX Runtime, of which onnx knows no shapes, are replaced by standard ones of the
    same shapes while they are inferred.

    Args:
        path: The artefact.
        inputs: Shapes of its inputs by name.

    Returns:
        The graph without external data, shapes by value, and element types by value.
    """
    import numpy as np
    import onnx
    import onnx.inliner

    model = onnx.load(path, load_external_data=False)
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    light = skeleton(model, inputs)
    del light.graph.output[:]  # what is declared of them may contradict the stand-ins
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = [_stand_in(node, tensors, light.graph) for node in light.graph.node]
    del light.graph.node[:]
    light.graph.node.extend(nodes)
    shapes = {name: tuple(tensor.dims) for name, tensor in tensors.items()}
    types = {name: tensor.data_type for name, tensor in tensors.items()}
    with contextlib.suppress(Exception):  # what is wrong with a graph is for onnx.checker to say
        # folding computes sizes in ways that inference does not follow
        for fold in (_fold_sizes, _fold_constants):
            known = -1
            while known < len(shapes):
                known = len(shapes)
                light = _infer(light, shapes, types)
                if _complete(light.graph, shapes):
                    return model.graph, shapes, types
                with np.errstate(all="ignore"):  # what a Where does not take: log(0) in T5
                    fold(light, shapes)
                _forget_unknown(light, shapes)
    return model.graph, shapes, types


def _fold_sizes(model: onnx.ModelProto, shapes: Shapes) -> None:
    fold_sizes(model, shapes, _SMALL)


def _fold_constants(model: onnx.ModelProto, shapes: Shapes) -> None:
    from onnxscript.optimizer import fold_constants  # takes most of a second

    fold_constants(model)


def _infer(
    model: onnx.ModelProto, shapes: dict[str, Shape], types: dict[str, int]
) -> onnx.ModelProto:
    """Adds the shapes and types that can be inferred; returns the model with them."""
    import onnx

    model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    for value in (*model.graph.input, *model.graph.value_info):
        tensor = value.type.tensor_type
        types.setdefault(value.name, tensor.elem_type)
        sizes = [dim.dim_value for dim in tensor.shape.dim if dim.HasField("dim_value")]
        if tensor.HasField("shape") and len(sizes) == len(tensor.shape.dim):
            shapes.setdefault(value.name, tuple(sizes))
    _forget_unknown(model, shapes)
    return model


def _complete(graph: onnx.GraphProto, shapes: Shapes) -> bool:
    """Whether every value has a shape; what is inside of branches and loops is not known."""
    return all(
        all(name in shapes for name in node.output if name)
        and not any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)
        for node in graph.node
    )


def _forget_unknown(model: onnx.ModelProto, shapes: Shapes) -> None:
    """Drops what is recorded of values without a shape: it would be kept rather than inferred."""
    kept = [value for value in model.graph.value_info if value.name in shapes]
    del model.graph.value_info[:]
    model.graph.value_info.extend(kept)


def unpacked(node: onnx.NodeProto, tensor: onnx.TensorProto) -> Shape:
    """The shape of a weight that a node of ONNX Runtime reads, packed or not."""
    import onnx

    found = attributes(node)
    if node.op_type in ("MatMulNBits", "MatMulBnb4"):
        return found["K"], found["N"]
    shape = tuple(tensor.dims)
    if node.op_type == "GatherBlockQuantized" and tensor.data_type == onnx.TensorProto.UINT8:
        return (*shape[:-1], shape[-1] * 8 // found.get("bits", 4))
    return shape


def _stand_in(
    node: onnx.NodeProto, tensors: Mapping[str, onnx.TensorProto], graph: onnx.GraphProto
) -> onnx.NodeProto:
    """A standard node of the same shapes; a weight that is packed becomes an input of `graph`."""
    import onnx

    if node.domain != "com.microsoft":
        return node
    weight = f"{node.output[0]}.unpacked"
    if node.op_type in ("MatMulNBits", "MatMulBnb4"):
        standard = onnx.helper.make_node("MatMul", [node.input[0], weight], node.output)
        packed = node.input[1]
    elif node.op_type == "GatherBlockQuantized":
        axis = attributes(node).get("gather_axis", 0)
        standard = onnx.helper.make_node("Gather", [weight, node.input[1]], node.output, axis=axis)
        packed = node.input[0]
    elif node.op_type in SHAPE_STAND_INS:
        operator, taken = SHAPE_STAND_INS[node.op_type]
        standard = onnx.helper.make_node(operator, node.input[taken], node.output[:3])
        standard.attribute.extend(node.attribute)
        return standard
    else:
        return node
    if packed not in tensors:
        return node
    shape = unpacked(node, tensors[packed])
    kind = onnx.helper.make_tensor_value_info(weight, onnx.TensorProto.FLOAT, shape)
    graph.input.append(kind)
    return standard


def _bytes(value: onnx.ValueInfoProto) -> tuple[str, int | None]:
    import onnx

    tensor = value.type.tensor_type
    if not tensor.elem_type or not tensor.HasField("shape"):
        return value.name, None
    if any(dim.WhichOneof("value") != "dim_value" for dim in tensor.shape.dim):
        return value.name, None
    item = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
    return value.name, math.prod(dim.dim_value for dim in tensor.shape.dim) * item
