"""Faults in a graph's inputs and outputs: exchanged, of another dtype, of a fixed size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.mutants.edit import Edit, Fault
from pytest_onnxcheck.engine.mutants.view import View, declared_type

if TYPE_CHECKING:
    import onnx

__all__ = ["changed_dtypes", "static_dims", "swapped_outputs"]

#: dtype of an output -> those it is cast to
_CASTS = {
    "float16": ("float32",),
    "float32": ("float16", "float64"),
    "float64": ("float32",),
    "int32": ("int64",),
    "int64": ("int32",),
}

#: What a symbolic dim becomes; cases rarely have this size.
_STATIC = 3


def swapped_outputs(view: View) -> Iterator[Fault]:
    """Two outputs of one dtype and as many dims exchanged."""
    for left, right in combinations(view.outputs, 2):
        left_dtype, left_shape = declared_type(left)
        right_dtype, right_shape = declared_type(right)
        if left_dtype == right_dtype and len(left_shape) == len(right_shape):
            yield Fault(
                left.name,
                f"outputs {left.name!r} and {right.name!r} swapped",
                partial(_swap, left, right),
            )


def _swap(left: onnx.ValueInfoProto, right: onnx.ValueInfoProto, edit: Edit) -> None:
    names = {left.name: right.name, right.name: left.name}
    edit.rename(names)
    for value in edit.graph.value_info:
        if value.name in names:
            edit.keep(value)
            value.name = names[value.name]
    # the values keep their declared shapes
    edit.keep(left)
    edit.keep(right)
    before = type(left.type)()
    before.CopyFrom(left.type)
    left.type.CopyFrom(right.type)
    right.type.CopyFrom(before)


def static_dims(view: View) -> Iterator[Fault]:
    """A symbolic dim of the inputs made a number, in inputs and outputs."""
    symbols = dict.fromkeys(
        dim.dim_param
        for value in view.inputs
        for dim in value.type.tensor_type.shape.dim
        if dim.dim_param
    )
    for symbol in symbols:
        yield Fault(symbol, f"dim {symbol!r} made static: {_STATIC}", partial(_fix, symbol))


def _fix(symbol: str, edit: Edit) -> None:
    for value in (*edit.graph.input, *edit.graph.output):
        if any(dim.dim_param == symbol for dim in value.type.tensor_type.shape.dim):
            edit.keep(value)
            for dim in value.type.tensor_type.shape.dim:
                if dim.dim_param == symbol:
                    dim.dim_value = _STATIC


def changed_dtypes(view: View) -> Iterator[Fault]:
    """An output cast to another dtype of its kind."""
    import numpy as np
    import onnx

    for output in view.outputs:
        before, _ = declared_type(output)
        for after in _CASTS.get(before or "", ()):
            yield Fault(
                output.name,
                f"output {output.name!r} cast: {before} -> {after}",
                partial(
                    Edit.cast,
                    output=output,
                    dtype=onnx.helper.np_dtype_to_tensor_dtype(np.dtype(after)),
                ),
            )
