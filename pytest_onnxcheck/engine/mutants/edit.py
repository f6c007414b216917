"""A fault, and the changes to a graph that make it and that are taken back after it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.graph.walk import nodes_of

if TYPE_CHECKING:
    import numpy as np
    import onnx

__all__ = ["Edit", "Fault"]


@dataclass(frozen=True)
class Fault:
    """A fault that a model admits, not yet applied."""

    where: str
    description: str
    change: Callable[[Edit], None]


class Edit:
    """Changes a graph in place and takes the changes back."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.graph = graph
        self._undo: list[Callable[[], object]] = []

    def undo(self) -> None:
        """Takes everything back, the last change first."""
        while self._undo:
            self._undo.pop()()

    def keep(self, message: Any) -> None:
        """Remembers a message of the graph as it is; the caller may change it freely."""
        before = type(message)()
        before.CopyFrom(message)
        self._undo.append(partial(message.CopyFrom, before))

    def write(self, tensor: onnx.TensorProto, array: np.ndarray[Any, Any]) -> None:
        """Gives a constant another value."""
        import onnx

        self.keep(tensor)
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))

    def feed(self, node: onnx.NodeProto, index: int, array: np.ndarray[Any, Any]) -> None:
        """Makes one node, and no other reader, read another constant."""
        import numpy as np
        import onnx

        name = self._fresh(node.input[index])
        tensor = onnx.numpy_helper.from_array(np.asarray(array), name)
        self.graph.initializer.append(tensor)
        self._undo.append(self.graph.initializer.pop)
        self.keep(node)
        node.input[index] = name

    def retype(self, node: onnx.NodeProto, operator: str) -> None:
        """Makes a node compute another function of its first input, with default attributes."""
        self.keep(node)
        node.op_type = operator
        del node.attribute[:]
        del node.input[1:]

    def attribute(self, node: onnx.NodeProto, name: str, value: Any) -> None:
        """Sets an attribute."""
        import onnx

        self.keep(node)
        kept = [entry for entry in node.attribute if entry.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, onnx.helper.make_attribute(name, value)])

    def rename(self, names: Mapping[str, str]) -> None:
        """Renames values in all nodes; the declarations of inputs and outputs stay."""
        for node in nodes_of(self.graph):
            for values in (node.input, node.output):
                for index, name in enumerate(values):
                    if name in names:
                        self._undo.append(partial(values.__setitem__, index, name))
                        values[index] = names[name]

    def cast(self, output: onnx.ValueInfoProto, dtype: int) -> None:
        """Puts a Cast in front of an output and declares its dtype."""
        import onnx

        inner = self._fresh(output.name)
        self.rename({output.name: inner})
        self.graph.node.append(onnx.helper.make_node("Cast", [inner], [output.name], to=dtype))
        self._undo.append(self.graph.node.pop)
        self.keep(output)
        output.type.tensor_type.elem_type = dtype

    def _fresh(self, name: str) -> str:
        taken = {value for node in nodes_of(self.graph) for value in (*node.input, *node.output)}
        taken.update(tensor.name for tensor in self.graph.initializer)
        name = f"{name}_mutant"
        while name in taken:
            name += "_"
        return name
