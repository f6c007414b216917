"""The IR version of an artefact that an older ONNX Runtime has to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.runtimes import release
from pytest_onnxcheck.engine.graph.walk import graphs, nodes_of, tensors

if TYPE_CHECKING:
    import onnx

__all__ = ["lower_ir_version", "needed_ir_version"]

#: element type -> the first IR version that has it
_TYPES = {
    **dict.fromkeys(("FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ"), 9),
    **dict.fromkeys(("UINT4", "INT4"), 10),
    "FLOAT4E2M1": 11,
    "FLOAT8E8M0": 12,
    **dict.fromkeys(("UINT2", "INT2"), 13),
}
#: attributes that say the type of an output
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def lower_ir_version(path: Path, oldest: str) -> int | None:
    """Rewrites a file in an IR version that a release reads, if nothing in it needs a newer one.

    So are opsets left out that it imports and does not use, where the release lacks them.

    Exporters write the newest that they know, whatever the opset. What a node's notes
    (`metadata_props`, IR version 10) say is not lost: who does not know them passes them over.

    Args:
        path: The file; its external data is left alone.
        oldest: The release, e.g. `1.17`.

    Returns:
        The IR version that it had; None where it is left as it is.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    runtime, written = release(oldest), model.ir_version
    unused = [
        entry for entry in _unused(model) if entry.version > runtime.opsets.get(entry.domain, 0)
    ]
    for entry in unused:
        model.opset_import.remove(entry)
    lowers = written > runtime.ir_version >= needed_ir_version(model)
    if lowers:
        model.ir_version = runtime.ir_version
    if lowers or unused:
        path.write_bytes(model.SerializeToString())
    return int(written) if lowers else None


def _unused(model: onnx.ModelProto) -> list[onnx.OperatorSetIdProto]:
    """Imports of ai.onnx.ml and others that nothing in a model is of; quantizers leave them."""
    nodes = [*nodes_of(model.graph), *(node for each in model.functions for node in each.node)]
    used = {"", "ai.onnx"} | {node.domain for node in nodes}
    return [entry for entry in model.opset_import if entry.domain not in used]


def needed_ir_version(model: onnx.ModelProto) -> int:
    """The oldest IR version that has all that is in a model, and its opsets."""
    import onnx

    needed = [onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)]
    needed += [10 if function.overload else 8 for function in model.functions]
    needed += [10 for node in nodes_of(model.graph) if node.overload]
    needed += [11 for _ in getattr(model, "configuration", ())]
    names = {number: name for name, number in onnx.TensorProto.DataType.items()}
    needed += [_TYPES.get(names.get(number, ""), 0) for number in _types(model)]
    return max(needed)


def _types(model: onnx.ModelProto) -> Iterator[int]:
    """The element types in a model."""
    yield from (tensor.data_type for tensor in tensors(model.graph))
    for graph in graphs(model.graph):
        values = (*graph.input, *graph.output, *graph.value_info)
        yield from (value.type.tensor_type.elem_type for value in values)
    nodes = [*nodes_of(model.graph), *(node for each in model.functions for node in each.node)]
    for node in nodes:
        yield from (entry.i for entry in node.attribute if entry.name in _TYPE_ATTRIBUTES)
