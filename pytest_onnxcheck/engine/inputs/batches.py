"""Batches: which dim counts examples, and cases in which they differ in magnitude, or are one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.cases import Case, example_dims, fill_inputs
from pytest_onnxcheck.engine.inputs.kinds import family_of
from pytest_onnxcheck.manifest.sizes import dims_in

if TYPE_CHECKING:
    import numpy as np

    from pytest_onnxcheck.engine.reference.reference import Reference

    Array = np.ndarray[Any, Any]

__all__ = ["company", "copies", "leading_dim", "led_inputs", "scalable"]

#: How loud the quiet example of `company` is.
_QUIETER = 0.01

#: why a loss in company is told and not failed
_NOT_DECLARED = "no case of the manifest has an example as quiet beside louder ones"


def leading_dim(reference: Reference) -> str | None:
    """The symbolic dim that leads an input and an output, and stands nowhere else in a shape.

    None where there is none, or more than one.
    """
    dims = reference.model.dims
    outputs = {name: output.shape or () for name, output in reference.model.outputs.items()}
    shapes = [*reference.shapes.values(), *outputs.values()]
    inside = dims_in((shape[1:] for shape in shapes), dims)
    first = {shape[0] for shape in reference.shapes.values() if shape}
    last = {shape[0] for shape in outputs.values() if shape}
    found = [dim for dim in first & last if isinstance(dim, str) and dim in dims]
    found = [dim for dim in found if dim not in inside]
    return found[0] if len(found) == 1 else None


def led_inputs(reference: Reference, dim: str) -> list[str]:
    """The inputs whose first axis is a dim."""
    return [name for name, shape in reference.shapes.items() if shape[:1] == (dim,)]


def scalable(reference: Reference, names: list[str]) -> list[str]:
    """Those of some inputs that may be loud or quiet."""
    declared = reference.model.inputs
    return [
        name
        for name in names
        if declared[name].dtype.startswith("float")
        and declared[name].fill != "constant"
        and family_of(declared[name]) in ("free", "within", None)
    ]


def copies(reference: Reference, case: Case, dim: str, index: int) -> Case:
    """A case of the same size whose examples, along `dim`, are all the same one."""
    inputs = dict(case.inputs)
    for name in led_inputs(reference, dim):
        array = inputs[name]
        inputs[name] = array[[index] * len(array)]
    return dataclasses.replace(case, name=f"{case.name}, copies of example {index}", inputs=inputs)


def company(reference: Reference) -> Case | None:
    """Two or more examples as the manifest fills them, the last of which is a hundredth as large.

    None where examples cannot be quiet: a declared range keeps away from zero, or inputs are no
    floats; or where the manifest wants a batch of one only, or nothing drawn.
    """
    model, dim = reference.model, leading_dim(reference)
    if dim is None or max(model.dims[dim]) < 2 or not model.draws:
        return None
    led = scalable(reference, led_inputs(reference, dim))
    ranges = [model.inputs[name].range for name in led]
    if not led or any(found and not found[0] <= 0 <= found[1] for found in ranges):
        return None
    name = "one example quieter than the others"
    inputs = fill_inputs(reference, example_dims(model), name, 0)
    for scaled in led:
        inputs[scaled][-1] *= _QUIETER
    return Case(name, inputs, probe=True, lenient=_NOT_DECLARED)
