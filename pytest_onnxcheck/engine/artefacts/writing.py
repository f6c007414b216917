"""Reads and writes ONNX models of any size: large weights go to a data file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.faults import tensor_bytes
from pytest_onnxcheck.engine.graph.walk import tensors

if TYPE_CHECKING:
    import onnx

__all__ = ["MAX_INLINE_BYTES", "is_large", "load_inferred", "save"]

#: protobuf refuses files above 2^31 bytes; room is left for the graph itself
MAX_INLINE_BYTES = 2**31 - 2**24

#: weights of fewer bytes stay in the graph: shape inference reads the sizes that are among them
_LEAST_EXTERNAL_BYTES = 1024


def is_large(model: onnx.ModelProto) -> bool:
    """Whether the weights of a model, which may lie in external data, need a file of their own."""
    held = (tensor for tensor in tensors(model.graph) if tensor.data_type)
    return sum(map(tensor_bytes, held)) > MAX_INLINE_BYTES


def save(model: onnx.ModelProto, path: Path) -> None:
    """Writes a model; where it is large, its weights go to `PATH.data`, and leave the model."""
    import onnx

    if not is_large(model):
        onnx.save(model, path)
        return
    onnx.save(
        model,
        path,
        save_as_external_data=True,
        location=f"{path.name}.data",
        size_threshold=_LEAST_EXTERNAL_BYTES,
    )


def load_inferred(path: Path) -> onnx.ModelProto:
    """A model with its weights, and with the types and shapes that onnx infers.

    External data is read after inference, which serialises what it works on.
    """
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
    onnx.load_external_data_for_model(model, str(path.parent))
    return model
