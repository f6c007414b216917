"""The fp32 artefact in float16 or bfloat16, by ONNX Runtime's converter."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.artefacts.writing import load_inferred, save
from pytest_onnxcheck.engine.convert.prepare import (
    OptionError,
    drop_shapes_of_initializers,
    excluded,
    known_operators,
    matching,
)
from pytest_onnxcheck.engine.graph.operators import custom_operators
from pytest_onnxcheck.engine.graph.walk import graphs, nodes_of, tensors
from pytest_onnxcheck.manifest.sections import Quantization

if TYPE_CHECKING:
    import onnx

__all__ = ["to_bfloat16", "to_float16"]


def to_float16(source: Path, path: Path, options: Quantization, *, own: bool) -> None:
    """Writes the artefact `source` in float16 to `path`; `own` as in `known_operators`.

    Raises:
        OptionError: An option does not fit the graph.
    """
    model = load_inferred(source)
    blocked = [*known_operators(options, model.graph, own=own), *custom_operators(model.graph)]
    _save_sorted(_float16(model, source, options, blocked), path)


def _float16(
    model: onnx.ModelProto, source: Path, options: Quantization, blocked: Iterable[str]
) -> onnx.ModelProto:
    """The model in float16, but for the blocked operators and the excluded nodes."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    drop_shapes_of_initializers(model.graph)  # or blocked nodes' weights are taken for float16
    converted: onnx.ModelProto = convert_float_to_float16(
        model,
        keep_io_types=options.keep_io_types,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *blocked],
        node_block_list=excluded(options, model.graph, str(source)),
        disable_shape_infer=True,
    )
    _drop_repeated_casts(converted.graph)
    return converted


def _drop_repeated_casts(graph: onnx.GraphProto) -> None:
    """The converter casts a value once for every blocked node that reads it, under one name."""
    cast: set[str] = set()
    kept = []
    for node in graph.node:
        if node.op_type != "Cast" or node.output[0] not in cast:
            kept.append(node)
        if node.op_type == "Cast":
            cast.add(node.output[0])
    del graph.node[:]
    graph.node.extend(kept)


def to_bfloat16(source: Path, path: Path, options: Quantization, *, own: bool) -> None:
    """As fp16, and then what became float16 is made bfloat16, from the float32 values.

    Operators that ONNX has not in bfloat16 at this opset (Conv before 22, for one) compute in
    float32 between casts; their weights are stored in bfloat16 all the same.

    Raises:
        OptionError: An option does not fit the graph, or its opset is below 13.
    """
    import onnx

    model = load_inferred(source)
    blocked = [*known_operators(options, model.graph, own=own), *custom_operators(model.graph)]
    unknown = _without_bfloat16(model)
    original = onnx.ModelProto()
    original.CopyFrom(model)
    converted = _float16(model, source, options, [*blocked, *unknown])
    # the converter keeps the order, and adds nodes without tensors at the end
    for before, after in zip(tensors(original.graph), tensors(converted.graph), strict=False):
        if after.data_type == onnx.TensorProto.FLOAT16:
            after.CopyFrom(_as_bfloat16(before))
    _retype(converted.graph)
    _store_as_bfloat16(converted.graph, unknown - set(blocked), options)
    _save_sorted(converted, path)


def _without_bfloat16(model: onnx.ModelProto) -> set[str]:
    """The graph's operators that take float16 and not bfloat16 at its opset, by their schemas."""
    import onnx

    versions = {entry.domain: entry.version for entry in model.opset_import}
    if versions[""] < 13:
        raise OptionError(
            f"ONNX has casts to bfloat16 from opset 13 on, and the artefact is of {versions['']}: "
            "export it at a later opset"
        )
    found = set()
    for node in nodes_of(model.graph):
        try:
            schema = onnx.defs.get_schema(node.op_type, versions[node.domain], node.domain)
        except Exception:  # an operator of somebody else's
            found.add(node.op_type)
            continue
        allowed = [set(constraint.allowed_type_strs) for constraint in schema.type_constraints]
        if any("tensor(float16)" in types and "tensor(bfloat16)" not in types for types in allowed):
            found.add(node.op_type)
    return found


def _as_bfloat16(tensor: onnx.TensorProto) -> onnx.TensorProto:
    import onnx

    bfloat16 = onnx.helper.tensor_dtype_to_np_dtype(onnx.TensorProto.BFLOAT16)
    array = onnx.numpy_helper.to_array(tensor).astype(bfloat16)
    return onnx.numpy_helper.from_array(array, tensor.name)


def _retype(graph: onnx.GraphProto) -> None:
    """Makes bfloat16 of float16 wherever a graph names a type."""
    import onnx

    half, bfloat = onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16
    for inner in graphs(graph):
        for value in (*inner.input, *inner.output, *inner.value_info):
            kind = value.type
            if kind.HasField("sequence_type"):
                kind = kind.sequence_type.elem_type
            if kind.tensor_type.elem_type == half:
                kind.tensor_type.elem_type = bfloat
        for node in inner.node:
            for attribute in node.attribute:
                if attribute.name in ("to", "dtype") and attribute.i == half:
                    attribute.i = bfloat


def _store_as_bfloat16(graph: onnx.GraphProto, operators: set[str], options: Quantization) -> None:
    """Puts float32 weights that only these operators read into bfloat16, and a cast behind them."""
    import onnx

    excluded = set(matching(options.exclude_nodes or (), [node.name for node in graph.node]))
    read: dict[str, bool] = {}
    for node in nodes_of(graph):
        stored = node.op_type in operators and node.name not in excluded
        for name in node.input:
            read[name] = stored and read.get(name, True)
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and read.get(tensor.name):
            name = tensor.name
            tensor.CopyFrom(_as_bfloat16(tensor))
            tensor.name = f"{name}.bfloat16"
            graph.node.append(
                onnx.helper.make_node(
                    "Cast", [tensor.name], [name], f"{name}.float32", to=onnx.TensorProto.FLOAT
                )
            )


def _save_sorted(model: onnx.ModelProto, path: Path) -> None:
    import onnx_ir
    from onnx_ir.passes.common import TopologicalSortPass

    drop_shapes_of_initializers(model.graph)  # some of them keep the type they had
    # the converter appends the casts of the inputs behind the nodes that read them
    ordered = TopologicalSortPass()(onnx_ir.from_proto(model)).model
    save(onnx_ir.to_proto(ordered), path)
