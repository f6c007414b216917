"""What is wrong with calibration data: shapes, values, and inputs that never change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.arrays import batch_dim
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.errors import QuantizeError
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.manifest.sizes import names_in, size_or_none

if TYPE_CHECKING:
    import numpy as np

    Batch = dict[str, np.ndarray[Any, Any]]

__all__ = [
    "check_data",
    "check_shapes",
    "constant_inputs",
    "declared_shape",
    "has_rows",
    "recipe",
]


def check_data(reference: Reference, where: str, arrays: Batch) -> None:
    """Refuses an example, or a batch of a source, that the model's inputs do not allow.

    Args:
        reference: Gives the inputs' shapes.
        where: What it is, for the error.
        arrays: The arrays by input name, with their dtypes.

    Raises:
        QuantizeError: Shapes or values are not those declared.
    """
    check_shapes(reference, where, arrays)
    for name, array in arrays.items():
        _check_values(reference.model, where, name, array)


def check_shapes(reference: Reference, where: str, arrays: Batch) -> None:
    """The declared shapes, with one size for each symbolic dim, and nothing empty but what may be.

    An expression is held to the dims it follows from, as far as inputs have them by themselves.
    """
    model = reference.model
    sizes: dict[str, int] = {}
    axes = {name: list(enumerate(reference.shapes[name])) for name in arrays}
    for expressions in (False, True):  # the dims first, wherever they stand
        for name, array in arrays.items():
            held = [
                (dim, axis)
                for axis, dim in axes[name]
                if expressions == (isinstance(dim, str) and dim not in model.dims)
            ]
            known = dict(sizes)
            fits = array.ndim == len(axes[name]) and all(
                _fits_dim(model, sizes, dim, array.shape[axis]) for dim, axis in held
            )
            if not fits:
                names = {name for dim, _ in held for name in names_in(dim, model.dims)}
                given = "".join(f", {dim} = {known[dim]}" for dim in known if dim in names)
                raise QuantizeError(
                    f"{model.name}: calibration data, {where}: input {name!r} has shape "
                    f"{list(array.shape)}, declared {declared_shape(reference, name)}{given}. "
                    f"{_shape_advice(reference, name)}"
                )


def _fits_dim(model: Model, sizes: dict[str, int], dim: int | str, size: int) -> bool:
    """Whether an axis may be as large, by what is known of the dims; a dim it shows is noted."""
    if isinstance(dim, int):
        return size == dim
    if dim in model.dims:
        least = min(1, *model.dims[dim])
        return size == sizes.setdefault(dim, size) and size >= least
    known = sizes.keys() >= set(names_in(dim, model.dims))
    return not known or size == size_or_none(dim, sizes)


def _shape_advice(reference: Reference, name: str) -> str:
    wanted = reference.model.calibration
    if wanted is not None and wanted.source is not None:
        return "Give each batch in the declared shape"
    declared = reference.shapes[name]
    whole = f"[{', '.join(map(str, ('examples', *declared)))}]"
    if not has_rows(reference, name) and not (declared and isinstance(declared[0], int)):
        return f"The file must hold whole inputs, {whole}"
    number = "examples" if has_rows(reference, name) else f"examples x {declared[0]}"
    rows = f"[{', '.join(map(str, (number, *declared[1:])))}]"
    return f"The file must hold it as {rows} or {whole}"


def _check_values(model: Model, where: str, name: str, array: np.ndarray[Any, Any]) -> None:
    import numpy as np

    if not array.size:
        return
    finite = np.isfinite(array)
    if not finite.all():
        index = np.argwhere(~finite)[0].tolist()
        raise QuantizeError(
            f"{model.name}: calibration data, {where}: input {name!r} is {array[tuple(index)]} at "
            f"{index} ({int((~finite).sum())} of {array.size} elements are not finite): no range "
            "follows from it. Mend or remove this example"
        )
    if (allowed := model.inputs[name].range) is None:
        return
    # a float64 bound such as 0.1 is not a float32
    low, high = np.asarray(allowed, array.dtype)
    if array.min() < low or array.max() > high:
        raise QuantizeError(
            f"{model.name}: calibration data, {where}: input {name!r} goes from {array.min():.6g} "
            f"to {array.max():.6g}, declared range [{allowed[0]:g}, {allowed[1]:g}]. Scale the "
            "data as the model's inputs are scaled, or correct the range"
        )


def constant_inputs(model: Model, batches: list[Batch]) -> tuple[dict[str, float], bool]:
    """Inputs that are one value everywhere, and whether there are others.

    Left out are those that are declared to be constant or always empty, booleans (masks), and
    integers beside integers that vary (masks and segments beside token ids).
    """
    looked_at = {
        name: entry.dtype.startswith("float")
        for name, entry in model.inputs.items()
        if entry.fill != "constant"
        and entry.dtype != "bool"
        and any(batch[name].size for batch in batches)
    }
    constant = {}
    for name in looked_at:
        arrays = [batch[name] for batch in batches if batch[name].size]
        first = arrays[0].flat[0]
        several = sum(array.size for array in arrays) > 1
        if several and all((array == first).all() for array in arrays):
            constant[name] = float(first)
    varies = [name for name in looked_at if name not in constant]
    if not all(looked_at[name] for name in varies):
        constant = {name: value for name, value in constant.items() if looked_at[name]}
    return constant, bool(varies)


def has_rows(reference: Reference, name: str) -> bool:
    """Whether the first axis of an input is the batch."""
    shape = reference.shapes[name]
    return bool(shape) and shape[0] == batch_dim(reference)


def declared_shape(reference: Reference, name: str) -> str:
    """The shape of an input as the manifest has it, such as `[batch, 3]`."""
    return f"[{', '.join(map(str, reference.shapes[name]))}]"


def recipe(model: Model) -> str:
    """How to write a file that fits."""
    return f"numpy.savez(path, {', '.join(f'{name}=...' for name in model.inputs)})"
