"""What a model is read as before it is changed: its live nodes, constants, dtypes and shapes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.walk import reads

if TYPE_CHECKING:
    import numpy as np
    import onnx

__all__ = ["FLOAT_FORMATS", "Origin", "View", "attribute", "declared_type", "dtype_name", "name_of"]

#: float dtype -> the integer of its width, bits of its mantissa, bits of its exponent
FLOAT_FORMATS = {
    "float16": ("uint16", 10, 5),
    "float32": ("uint32", 23, 8),
    "float64": ("uint64", 52, 11),
}


@dataclass(frozen=True)
class Origin:
    """The constant that a weight is made of.

    Attributes:
        name: The constant's name.
        axis: Which of its axes is the one asked for; negative if counted from the end.
        dequantized: The DequantizeLinear between it and the weight.
    """

    name: str
    axis: int
    dequantized: onnx.NodeProto | None = None


class View:
    """What operators ask about a model.

    It keeps nodes and names, no attributes: taking back a change replaces a node's attributes.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        graph = proto.graph
        self.initializers: dict[str, onnx.TensorProto] = {t.name: t for t in graph.initializer}
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.nodes = self._live()
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in reads(node):
                self.readers[name].append(node)

    @cached_property
    def inputs(self) -> list[onnx.ValueInfoProto]:
        """The graph's inputs; before IR version 4 initializers were listed among them."""
        return [v for v in self.proto.graph.input if v.name not in self.initializers]

    @property
    def constants(self) -> list[str]:
        """Names of the constants that a node reads."""
        return [name for name in self.readers if self.tensor(name) is not None]

    def tensor(self, name: str) -> onnx.TensorProto | None:
        """A constant of the graph, an initializer or a Constant node's value."""
        node = self.producers.get(name)
        if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
            tensor: onnx.TensorProto = node.attribute[0].t
            return tensor
        return self.initializers.get(name)

    def array(self, name: str) -> np.ndarray[Any, Any]:
        """The value of a constant, to be changed at will."""
        import onnx

        tensor = self.tensor(name)
        assert tensor is not None
        return onnx.numpy_helper.to_array(tensor).copy()

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a constant."""
        tensor = self.tensor(name)
        assert tensor is not None
        return tuple(tensor.dims)

    @cached_property
    def opset(self) -> int:
        """The version of ONNX's own operators."""
        versions = [e.version for e in self.proto.opset_import if e.domain in ("", "ai.onnx")]
        return max(versions, default=1)

    def value(self, node: onnx.NodeProto, index: int) -> np.ndarray[Any, Any] | None:
        """What a node reads, if it is a constant, also behind Identity or DequantizeLinear."""
        import numpy as np
        import onnx

        name = node.input[index] if index < len(node.input) else ""
        if not name:
            return None
        if (tensor := self.tensor(name)) is not None:
            # packed and narrow dtypes are beyond numpy
            array: np.ndarray[Any, Any] = onnx.numpy_helper.to_array(tensor)
            return array if array.dtype.isbuiltin == 1 else None
        producer = self.producers.get(name)
        if producer is not None and producer.op_type == "Identity":
            return self.value(producer, 0)
        if producer is not None and producer.op_type == "DequantizeLinear":
            integers, scale, zero = (self.value(producer, index) for index in range(3))
            if integers is not None and integers.ndim == 1 and scale is not None:
                shifted = integers.astype(np.float64) - (0 if zero is None else zero)
                array = (shifted * scale).astype(scale.dtype)
                return array
        return None

    def origins(self, name: str, axis: int) -> Iterator[Origin]:
        """The constants that a weight is made of by moving values around.

        Args:
            name: The weight.
            axis: The axis of interest, followed through what moves it.
        """
        if self.tensor(name) is not None:
            yield Origin(name, axis)
            return
        node = self.producers.get(name)
        if node is None:
            return
        if node.op_type in ("Cast", "Identity", "Slice"):
            yield from self.origins(node.input[0], axis)
        elif node.op_type == "DequantizeLinear":
            if self.tensor(node.input[0]) is not None:
                yield Origin(node.input[0], axis, node)
        elif node.op_type == "Transpose":
            if perm := attribute(node, "perm"):
                yield from self.origins(node.input[0], perm[axis])
        elif node.op_type == "Unsqueeze" and axis >= 0:
            axes = self.value(node, 1)
            if axes is not None and (axes >= 0).all() and axis not in axes:
                yield from self.origins(node.input[0], axis - int((axes < axis).sum()))
        elif node.op_type == "Concat":
            for part in node.input:
                yield from self.origins(part, axis)

    @cached_property
    def types(self) -> dict[str, tuple[str | None, tuple[int | str | None, ...]]]:
        """Dtype and shape of every value that ONNX can infer."""
        import onnx

        graph = self.proto.graph
        skeleton = onnx.ModelProto(ir_version=self.proto.ir_version)
        skeleton.opset_import.extend(self.proto.opset_import)
        skeleton.graph.node.extend(graph.node)
        skeleton.graph.input.extend(graph.input)
        skeleton.graph.output.extend(graph.output)
        skeleton.graph.value_info.extend(graph.value_info)
        for tensor in graph.initializer:
            if math.prod(tensor.dims) <= 64:  # shapes depend on the values of small ones only
                skeleton.graph.initializer.append(tensor)
            else:
                skeleton.graph.initializer.add(
                    name=tensor.name, dims=tensor.dims, data_type=tensor.data_type
                )
        try:
            inferred = onnx.shape_inference.infer_shapes(skeleton).graph
        except onnx.shape_inference.InferenceError:
            inferred = skeleton.graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        found = {v.name: declared_type(v) for v in values if v.type.tensor_type.HasField("shape")}
        for name, tensor in self.initializers.items():
            found[name] = (dtype_name(tensor.data_type), tuple(tensor.dims))
        return found

    @cached_property
    def outputs(self) -> list[onnx.ValueInfoProto]:
        """The outputs that a node computes, and that are tensors."""
        return [
            v
            for v in self.proto.graph.output
            if v.name in self.producers and v.type.HasField("tensor_type")
        ]

    def _live(self) -> list[onnx.NodeProto]:
        needed = {value.name for value in self.proto.graph.output}
        live = []
        for node in reversed(self.proto.graph.node):
            if needed.intersection(node.output):
                needed.update(reads(node))
                live.append(node)
        return live[::-1]


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """A node's attribute; a string is decoded. `default` where the node has none."""
    import onnx

    for attribute in node.attribute:
        if attribute.name == name:
            value = onnx.helper.get_attribute_value(attribute)
            return value.decode() if isinstance(value, bytes) else value
    return default


def name_of(node: onnx.NodeProto) -> str:
    """A node's name; its first output where it has none."""
    return node.name or next(name for name in node.output if name)


def dtype_name(data_type: int) -> str | None:
    """Name in numpy of an ONNX data type; None where none is declared."""
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(data_type).name if data_type else None


def declared_type(value: onnx.ValueInfoProto) -> tuple[str | None, tuple[int | str | None, ...]]:
    """Declared dtype and shape of a tensor; a dim is its size, its symbol or None."""
    tensor = value.type.tensor_type
    dims = [getattr(dim, dim.WhichOneof("value") or "", None) for dim in tensor.shape.dim]
    return dtype_name(tensor.elem_type), tuple(dims)
