"""Inputs and outputs that a file says of itself: an artefact's, and an exported program's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.artefacts.reading import read_model
from pytest_onnxcheck.engine.guess.interface import Interface, observe
from pytest_onnxcheck.engine.guess.layers import BATCH, STEPS, TIME, Spec, candidates
from pytest_onnxcheck.errors import InputError

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["of_onnx", "of_program", "precision_of"]


def of_onnx(
    path: Path, module: torch.nn.Module, arguments: Mapping[str, Any] | None = None
) -> Interface:
    """The inputs and outputs of an artefact, with the module's shapes where they fit.

    Args:
        path: The artefact.
        module: The PyTorch model it was exported from.
        arguments: Constant arguments of its `forward`.

    Raises:
        ExportError: It is no ONNX file.
        InputError: PyTorch does not run on its inputs.
    """
    graph = read_model(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    values = [value for value in graph.input if value.name not in constants]
    words = [spec for spec in candidates(module) if spec.dtype == "int64"]
    specs = {value.name: _ranged(_spec(value), value.name, words) for value in values}
    names = [value.name for value in graph.output]

    def chosen(paths: list[str]) -> list[str]:
        return names if set(names) < set(paths) else paths

    found = observe(module.eval(), specs, chosen=chosen, arguments=arguments)
    if len(names) != len(found.outputs):
        raise InputError(
            f"{path} has {len(names)} outputs ({', '.join(names)}), and PyTorch returns "
            f"{len(found.outputs)}: it was exported from another model"
        )
    outputs = dict(zip(names, found.outputs.values(), strict=True))
    return replace(found, outputs=outputs, notes=(f"inputs as {path.name} has them", *found.notes))


def _spec(value: onnx.ValueInfoProto) -> Spec:
    """An input; its first axis counts examples where the artefact leaves it open."""
    import onnx

    tensor = value.type.tensor_type
    shape: list[int | str] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            shape.append(dim.dim_value)
        else:
            shape.append(BATCH if axis == 0 else TIME if axis == 1 else STEPS)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return Spec(tuple(shape), dtype, None, "as the artefact has it")


def _ranged(spec: Spec, name: str, words: list[Spec]) -> Spec:
    if not spec.dtype.startswith("int"):
        return spec
    if "mask" in name or "type" in name or not words:
        return replace(spec, range=(0, 1))
    return replace(spec, range=words[0].range, why=words[0].why)


def precision_of(path: Path) -> str:
    """What an artefact's weights and operators look like, see `terms.Precision`.

    Raises:
        ExportError: It is no ONNX file.
    """
    import onnx

    from pytest_onnxcheck.engine.graph.walk import nodes_of

    graph = read_model(path).graph
    operators = {node.op_type for node in nodes_of(graph)}
    types = {tensor.data_type for tensor in graph.initializer}
    if "MatMulNBits" in operators:
        return "int4-weight"
    if operators & {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger"}:
        return "int8-dynamic"
    if operators & {"QuantizeLinear", "QLinearConv", "QLinearMatMul"}:
        return "int8-static"
    if onnx.TensorProto.BFLOAT16 in types:
        return "bf16"
    return "fp16" if onnx.TensorProto.FLOAT16 in types else "fp32"


def of_program(path: Path) -> Interface:
    """The inputs and outputs of a `.pt2`, which notes them.

    Raises:
        InputError: Its inputs are no flat tensors.
    """
    import torch

    program = torch.export.load(path)
    placed = {node.name: node.meta.get("val") for node in program.graph.nodes}
    names = [name for name in program.graph_signature.user_inputs if isinstance(name, str)]
    specs = {name: Spec(tuple(_sizes(placed[name])), _dtype(placed[name])) for name in names}
    module: Any = program.module()
    ranged = {
        name: spec if spec.dtype.startswith("float") else replace(spec, range=(0, 1))
        for name, spec in specs.items()
    }
    return observe(module, ranged)


def _sizes(tensor: Any) -> Iterator[int | str]:
    import torch

    if not isinstance(tensor, torch.Tensor):
        raise InputError("a .pt2 whose inputs are no tensors: name their shapes (--input)")
    for axis, size in enumerate(tensor.shape):
        if isinstance(size, int):
            yield size
        else:
            yield BATCH if axis == 0 else STEPS


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
