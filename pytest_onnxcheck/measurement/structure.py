"""What a graph is made of: inputs, outputs, operators."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Axis", "MergedDims", "RuntimeFit", "SizeMismatch", "StructureMeasurement", "TensorSpec"]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output.

    Attributes:
        name: Its name.
        dtype: numpy name of its dtype.
        shape: Its dims: sizes, symbols, or None where the file says nothing of one; None where it
            says nothing of any.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class Axis:
    """An axis of an input or output.

    Attributes:
        kind: `input` or `output`.
        name: Its name.
        axis: Which axis, counted from 0.
    """

    kind: str
    name: str
    axis: int


@dataclass(frozen=True)
class MergedDims:
    """Two dims of the manifest that are one symbol in the artefact, though they may differ.

    Attributes:
        symbol: The artefact's.
        dims: The manifest's.
        axes: Where each of them is that symbol, first.
        sizes: Sizes of the two that differ in a run of PyTorch; None when there was no such run.
        refused: Whether PyTorch refused sizes that differ.
    """

    symbol: str
    dims: tuple[str, str]
    axes: tuple[Axis, Axis]
    sizes: tuple[int, int] | None
    refused: bool


@dataclass(frozen=True)
class SizeMismatch:
    """A size that PyTorch gives an output, where the manifest or the artefact says another.

    Attributes:
        axis: The output's.
        declared: The manifest's: an expression, a dim that only outputs have, or `any`.
        wanted: What the expression gives; None of the others.
        found: PyTorch's.
        dims: The sizes of the inputs' dims in that run.
        fixed: The artefact's, where it has a fixed size and none is declared.
        formula: An expression that gives PyTorch's sizes in all runs; None where none is known.
        between: Whether a size in that run is none that `dims` lists, but stands between them.
    """

    axis: Axis
    declared: str
    wanted: int | None
    found: int
    dims: dict[str, int]
    fixed: int | None = None
    formula: str | None = None
    between: bool = False


@dataclass(frozen=True)
class RuntimeFit:
    """Whether the ONNX Runtimes that a file is deployed on load it, by the table of releases.

    Attributes:
        wanted: What the manifest says of them, e.g. `>=1.17`.
        obstacles: Release -> why it does not load the file; of those that `wanted` holds.
        oldest: The oldest release that loads it, as all newer ones do; None where there is none.
        newest: The newest release in the table.
        ir_version: The file's.
        lowered_from: The IR version that the exporter wrote, where it was lowered.
        run_in: The release in whose environment `test_equivalence` runs it; None where it does not.
    """

    wanted: str
    obstacles: dict[str, tuple[str, ...]]
    oldest: str | None
    newest: str
    ir_version: int
    lowered_from: int | None
    run_in: str | None = None


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
        unreached_outputs: Declared outputs that depend on no input.
        constant_outputs: Those of them that depend on none in PyTorch either.
        merged_dims: Dims that are one symbol in the artefact, and may differ.
        followed: Axes of outputs that the file calls static, where the artefact, run at several
            sizes, gives PyTorch's shapes.
        allowed_opsets: Versions that the manifest allows a given file; empty where any will do.
        size_mismatches: Axes of outputs that have another size in PyTorch than is said of them.
        runtime: The ONNX Runtimes that it has to load in; None where the manifest names none.
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
    constant_outputs: tuple[str, ...] = ()
    merged_dims: tuple[MergedDims, ...] = ()
    followed: tuple[Axis, ...] = ()
    allowed_opsets: tuple[int, ...] = ()
    size_mismatches: tuple[SizeMismatch, ...] = ()
    runtime: RuntimeFit | None = None
