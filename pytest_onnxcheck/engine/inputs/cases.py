"""Cases: sets of inputs, made from what the manifest declares. Deterministic by seed."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.imports import import_object
from pytest_onnxcheck.engine.reference.tensors import arrays_of
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.manifest.sections import CaseFile, Input

if TYPE_CHECKING:
    import numpy as np

    from pytest_onnxcheck.engine.reference.reference import Reference

    Array = np.ndarray[Any, Any]

__all__ = [
    "Case",
    "Runs",
    "arrays_sha256",
    "batch_dim",
    "copied",
    "declared_cases",
    "dim_values",
    "example",
    "example_dims",
    "fill_inputs",
    "generator",
    "given_arrays",
    "load_arrays",
    "runs_of",
    "seeded",
    "smallest_dims",
]

#: more combinations of dims than this, and dims are swept one at a time
_MAX_COMBINATIONS = 16


@dataclass(frozen=True)
class Case:
    """One set of inputs.

    Attributes:
        name: How it was made; unique within the model.
        inputs: The arrays by input name.
        outside_range: Whether the model is not made for it: what differs is told, not failed.
        probe: Whether the plugin thought of it by itself.
    """

    name: str
    inputs: dict[str, Array]
    outside_range: bool = False
    probe: bool = False


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
    held = {dim for shape in shapes for dim in shape if isinstance(dim, str)}
    named = {dim for dim in held if "batch" in dim.lower() or dim.lower() in {"b", "bs"}}
    outputs = (output.shape for output in reference.model.outputs.values())
    leading = {shape[0] for shape in (*shapes, *outputs) if shape and shape[0] in held}
    found = named or leading
    return str(*found) if len(found) == 1 else None


@contextlib.contextmanager
def seeded(model: Model) -> Iterator[None]:
    """Torch's random numbers follow the model's seed inside, and are as before after it."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        yield


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


def dim_values(dims: Mapping[str, tuple[int, ...]]) -> list[dict[str, int]]:
    """The combinations of dims to check: all of them, or, when many, each value once.

    Swept one at a time, the other dims stand at their first value; the combination of all last
    values is added.
    """
    combinations = [
        dict(zip(dims, values, strict=True)) for values in itertools.product(*dims.values())
    ]
    if len(combinations) <= _MAX_COMBINATIONS:
        return combinations
    first = {dim: values[0] for dim, values in dims.items()}
    swept = [first, *({**first, dim: value} for dim in dims for value in dims[dim][1:])]
    last = {dim: values[-1] for dim, values in dims.items()}
    return swept if last in swept else [*swept, last]


def declared_cases(reference: Reference) -> list[Case]:
    """The cases the manifest declares: the example, seeded draws for the dims, then files.

    Raises:
        InputError: A file is missing or does not fit the declared inputs.
    """
    model = reference.model
    cases = []
    if model.example is not None:
        cases.append(Case("example", _case_file(model, model.example)))
    for dims in dim_values(model.dims):
        for draw in range(model.draws):
            name = "/".join([*(f"{dim}={value}" for dim, value in dims.items()), f"draw{draw}"])
            cases.append(Case(name, fill_inputs(reference, dims, name, draw)))
    for name, entry in model.cases.items():
        cases += [
            Case(made, arrays, entry.outside_range) for made, arrays in _own(model, name, entry)
        ]
    return cases


def _own(model: Model, name: str, entry: CaseFile) -> Iterator[tuple[str, dict[str, Array]]]:
    """The user's own cases behind one entry of the manifest."""
    if entry.file is not None:
        yield f"case:{name}", _case_file(model, entry.file)
        return
    assert entry.source is not None
    function = import_object(entry.source, model.root)
    try:
        given = function()
        several = [given] if isinstance(given, Mapping) else list(given)
    except Exception as error:
        raise InputError(
            f"{model.name}: case {name!r}: {entry.source}() failed: {type(error).__name__}: {error}"
        ) from error
    if not several:
        raise InputError(f"{model.name}: case {name!r}: {entry.source}() gave no inputs")
    for index, arrays in enumerate(several):
        made = f"case:{name}" if given is arrays else f"case:{name}/{index}"
        yield made, given_arrays(model, f"{made} of {entry.source}()", arrays)


def smallest_dims(model: Model) -> dict[str, int]:
    """The smallest declared value of every dim."""
    return {dim: min(values) for dim, values in model.dims.items()}


def example_dims(model: Model) -> dict[str, int]:
    """The dims to export with: each at its first value above 1.

    torch.export and the tracer turn a size of 1 into a constant.
    """
    return {
        dim: next((value for value in values if value > 1), 2) for dim, values in model.dims.items()
    }


def example(reference: Reference) -> dict[str, Array]:
    """Inputs for the export: the manifest's example, or a seeded draw."""
    model = reference.model
    if model.example is not None:
        return _case_file(model, model.example)
    return fill_inputs(reference, example_dims(reference.model), "export", 0)


def fill_inputs(
    reference: Reference, dims: Mapping[str, int], case: str, draw: int
) -> dict[str, Array]:
    """Arrays for every input as the manifest says to fill them.

    Args:
        reference: Gives the inputs' shapes.
        dims: Values of the symbolic dims.
        case: Seeds the draw, with the manifest's seed, the model and the input.
        draw: Which examples of a file to take.
    """
    import numpy as np

    model = reference.model
    arrays = {}
    for name, entry in model.inputs.items():
        symbolic = reference.shapes[name]
        shape = tuple(dims[dim] if isinstance(dim, str) else dim for dim in symbolic)
        rng = generator(model, case, name)
        if entry.file is not None:
            arrays[name] = _from_file(model, name, shape, draw)
        else:
            arrays[name] = np.asarray(_draw(rng, entry, shape), entry.dtype, order="C")
    return arrays


def generator(model: Model, case: str, name: str) -> np.random.Generator:
    """The random numbers of one input of one case."""
    import numpy as np

    digest = hashlib.sha256(f"{model.seed}/{model.name}/{case}/{name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def load_arrays(path: Path, names: list[str]) -> dict[str, Array]:
    """The arrays of an `.npz` by name, or of an `.npy` under the only name.

    Raises:
        InputError: The file is missing, unreadable, or lacks one of the names.
    """
    import numpy as np

    if not path.is_file():
        raise InputError(f"{path}: not found")
    try:
        loaded = np.load(path, allow_pickle=False)
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


def _case_file(model: Model, file: str) -> dict[str, Array]:
    arrays = load_arrays(model.root / file, list(model.inputs))
    return {name: _checked(model, name, arrays[name], f"{file}: ") for name in model.inputs}


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
        name: _checked(model, name, np.asarray(arrays[name]), f"{where}: ") for name in model.inputs
    }


def _draw(rng: np.random.Generator, entry: Input, shape: tuple[int, ...]) -> Array:
    import numpy as np

    if entry.dtype == "bool" and entry.fill != "constant":
        return rng.integers(0, 2, size=shape)
    is_float = entry.dtype.startswith("float")
    default = "uniform" if entry.range is not None else "normal"
    fill = entry.fill or (default if is_float else "integers")
    if fill == "constant":
        return np.full(shape, entry.value)
    if fill == "normal":
        drawn = rng.normal(entry.mean, entry.std, size=shape)
        return drawn if entry.range is None else drawn.clip(*entry.range)
    assert entry.range is not None
    low, high = entry.range
    if fill == "uniform":
        return rng.uniform(low, high, size=shape)
    return rng.integers(math.ceil(low), math.floor(high), size=shape, endpoint=True)


def _from_file(model: Model, name: str, shape: tuple[int, ...], draw: int) -> Array:
    """The input of one draw: rows of the file, or one entry where it has an axis more."""
    import numpy as np

    entry = model.inputs[name]
    assert entry.file is not None
    path = model.root / entry.file
    examples = load_arrays(path, [entry.key or name])[entry.key or name]
    if examples.ndim == 0:
        raise InputError(f"{path}: a single number; the first axis must count examples")
    if not len(examples):
        raise InputError(f"{path}: no examples of input {name!r}")
    if shape and examples.ndim == len(shape):
        rows = np.arange(draw * shape[0], (draw + 1) * shape[0]) % len(examples)
        array = examples[rows]
    else:
        array = examples[draw % len(examples)]
    array = _checked(model, name, array)
    if array.shape != shape:
        raise InputError(
            f"{path}: input {name!r}: examples give {list(array.shape)}, declared {list(shape)}"
        )
    return array


def _checked(model: Model, name: str, array: Array, where: str = "") -> Array:
    import numpy as np

    dtype = model.inputs[name].dtype
    if array.dtype != np.dtype(dtype):
        raise InputError(
            f"{model.name}: {where}input {name!r} is {array.dtype} where it comes from, "
            f"declared {dtype}: give it with .astype({dtype!r})"
        )
    return np.asarray(array, order="C")
