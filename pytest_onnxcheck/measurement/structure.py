"""What a graph is made of: inputs, outputs, operators."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["StructureMeasurement", "TensorSpec"]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: dims are sizes, symbols, or None where the file says nothing."""

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class StructureMeasurement:
    """What the graph is made of.

    Attributes:
        inputs: The artefact's inputs in order.
        outputs: The artefact's outputs in order.
        expected_inputs: The same as the manifest declares them.
        expected_outputs: The same as the manifest declares them.
        opset: Version of the default operator set.
        expected_opset: Version the variant asks for, if any.
        nodes: Number of nodes, subgraphs included.
        operators: Operator type -> number of nodes.
        training: Nodes in training mode, as `Operator (node name)`.
        random: Nodes that draw random numbers.
        unused_inputs: Inputs that no node or output reads.
        ignored_inputs: Those of them that PyTorch's outputs do not depend on either.
        unreached_outputs: Outputs that depend on no input.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    expected_inputs: tuple[TensorSpec, ...]
    expected_outputs: tuple[TensorSpec, ...]
    opset: int
    expected_opset: int | None
    nodes: int
    operators: dict[str, int]
    training: tuple[str, ...]
    random: tuple[str, ...]
    unused_inputs: tuple[str, ...]
    unreached_outputs: tuple[str, ...]
    ignored_inputs: tuple[str, ...] = ()
