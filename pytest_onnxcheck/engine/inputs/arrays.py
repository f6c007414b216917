"""Arrays that are given: read from files, checked, copied, hashed, and cut into runs."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.tensors import arrays_of
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest import Model

if TYPE_CHECKING:
    import numpy as np

    from pytest_onnxcheck.engine.reference.reference import Reference

    Array = np.ndarray[Any, Any]

__all__ = [
    "Runs",
    "arrays_sha256",
    "batch_dim",
    "checked_dtype",
    "copied",
    "given_arrays",
    "load_arrays",
    "runs_of",
]


def load_arrays(path: Path, names: list[str]) -> dict[str, Array]:
    """The arrays of an `.npz` by name, or of an `.npy` under the only name.

    Raises:
        InputError: The file is missing, unreadable, or lacks one of the names.
    """
    import numpy as np

    if not path.is_file():
        raise InputError(f"{path}: not found")
    try:
        with path.open("rb") as file:  # numpy leaves open what it cannot read
            loaded = np.load(file, allow_pickle=False)
            single = isinstance(loaded, np.ndarray)
            held = {} if single else {name: loaded[name] for name in loaded.files}
    except Exception as error:  # zipfile, zlib, EOF and value errors, by what is broken
        raise InputError(f"{path}: cannot be read as .npy or .npz: {error}") from error
    if single:
        if len(names) != 1:
            raise InputError(f"{path}: one array, but {len(names)} are needed: {', '.join(names)}")
        return {names[0]: loaded}
    missing = [name for name in names if name not in held]
    if missing:
        raise InputError(
            f"{path}: no array {', '.join(map(repr, missing))}; it holds "
            f"{', '.join(map(repr, held))}"
        )
    return {name: held[name] for name in names}


def given_arrays(model: Model, where: str, arrays: object) -> dict[str, Array]:
    """The user's own arrays, one for each input and of its dtype, in the order of the inputs.

    Args:
        model: Declares the inputs.
        where: Where they come from, for the error.
        arrays: What was given: `{input: array}`.

    Raises:
        InputError: A name or dtype is not as declared.
    """
    import numpy as np

    if not isinstance(arrays, Mapping) or set(arrays) != set(model.inputs):
        held = list(arrays) if isinstance(arrays, Mapping) else f"a {type(arrays).__name__}"
        raise InputError(
            f"{model.name}: {where} gives {held}, expected a dict of arrays by input name: "
            f"{', '.join(model.inputs)}"
        )
    return {
        name: checked_dtype(model, name, np.asarray(arrays[name]), f"{where}: ")
        for name in model.inputs
    }


def checked_dtype(model: Model, name: str, array: Array, where: str = "") -> Array:
    """An array as it is, in C order.

    Args:
        model: Declares the inputs.
        name: The input that the array is for.
        array: The array.
        where: Where it comes from, for the error.

    Raises:
        InputError: It has another dtype than the input is declared with.
    """
    import numpy as np

    dtype = model.inputs[name].dtype
    if array.dtype != np.dtype(dtype):
        raise InputError(
            f"{model.name}: {where}input {name!r} is {array.dtype} where it comes from, "
            f"declared {dtype}: give it with .astype({dtype!r})"
        )
    return np.asarray(array, order="C")


def copied(value: Any) -> Array:
    """An array or tensor as a new array: what a generator gives may be one buffer, filled again."""
    import numpy as np
    import torch

    return np.array(arrays_of([value])[0] if isinstance(value, torch.Tensor) else value)


def arrays_sha256(several: Iterable[Mapping[str, Array]]) -> str:
    """Hex SHA-256 of arrays with their names, dtypes and shapes."""
    digest = hashlib.sha256()
    for arrays in several:
        for name, array in arrays.items():
            digest.update(f"{name} {array.dtype} {array.shape} ".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Runs:
    """An array that holds one input of many runs, as files do.

    Attributes:
        array: The array.
        rows: How many of its rows make one run, the last perhaps fewer; None where each entry is
            a whole input.
    """

    array: Array
    rows: int | None

    def __len__(self) -> int:
        entries = len(self.array)
        return entries if self.rows is None else math.ceil(entries / self.rows)

    def __getitem__(self, run: int) -> Array:
        if self.rows is None:
            entry: Array = self.array[run]
            return entry
        return self.array[run * self.rows : (run + 1) * self.rows]


def runs_of(reference: Reference, name: str, array: Array, batch: int) -> Runs:
    """How the array of a file is read: by its number of axes.

    With one axis more than the input is declared with, each entry is a whole input. With as many,
    a run takes as many rows as the first size is, or `batch` of them where it is the batch; any
    other symbolic size (a time axis that leads) counts no examples, and entries are taken whole.

    Args:
        reference: Gives the inputs' shapes.
        name: The input.
        array: What the file holds, with at least one axis.
        batch: Rows in a run, where the first size is the batch.
    """
    declared = reference.shapes[name]
    if not declared or array.ndim != len(declared):
        return Runs(array, None)
    if isinstance(declared[0], int):
        return Runs(array, declared[0])
    return Runs(array, batch if declared[0] == batch_dim(reference) else None)


def batch_dim(reference: Reference) -> str | None:
    """The symbolic dim that counts examples; None where there is none, or no telling.

    It is the one that is named so (`batch`, `batch_size`, `b`, `bs`), wherever it stands, or else
    the one that leads all inputs and outputs that a symbolic dim of the inputs leads.
    """
    shapes = reference.shapes.values()
    declared = reference.model.dims
    held = {dim for shape in shapes for dim in shape if isinstance(dim, str) and dim in declared}
    named = {dim for dim in held if "batch" in dim.lower() or dim.lower() in {"b", "bs"}}
    outputs = (output.shape or () for output in reference.model.outputs.values())
    leading = {shape[0] for shape in (*shapes, *outputs) if shape and shape[0] in held}
    found = named or leading
    return str(*found) if len(found) == 1 else None
