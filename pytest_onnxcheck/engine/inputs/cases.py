"""Cases: sets of inputs, made from what the manifest declares. Deterministic by seed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs import masks
from pytest_onnxcheck.engine.inputs.arrays import checked_dtype, given_arrays, load_arrays
from pytest_onnxcheck.engine.reference.imports import import_object
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.manifest.sections import CaseFile, Input
from pytest_onnxcheck.manifest.sizes import SizeError, dim_values, exported_dims, shape_at

if TYPE_CHECKING:
    import numpy as np

    from pytest_onnxcheck.engine.reference.reference import Reference

    Array = np.ndarray[Any, Any]

__all__ = [
    "Case",
    "declared_cases",
    "dims_of",
    "example",
    "example_dims",
    "fill_inputs",
    "generator",
    "own_cases",
    "smallest_dims",
    "timed_inputs",
]

_OUTSIDE_RANGE = "the manifest declares this case outside the model's range"


@dataclass(frozen=True)
class Case:
    """One set of inputs.

    Attributes:
        name: How it was made; unique within the model.
        inputs: The arrays by input name.
        lenient: Why what differs is told and not failed: the model is not made for these inputs.
        probe: Whether the plugin thought of it by itself.
        ordinary: Whether its values are such as the manifest's draws have, whatever its sizes.
        odd_mask: Whether a probe masks an input as the manifest does not say that it is.
        given: Whether the user gave its inputs.
    """

    name: str
    inputs: dict[str, Array]
    lenient: str = ""
    probe: bool = False
    ordinary: bool = True
    odd_mask: bool = False
    given: bool = False


def declared_cases(reference: Reference) -> list[Case]:
    """The cases the manifest declares: the example, seeded draws for the dims, then files.

    Raises:
        InputError: A file is missing or does not fit the declared inputs.
    """
    model = reference.model
    drawn = []
    for dims in dim_values(model.dims):
        for draw in range(model.draws):
            name = "/".join([*(f"{dim}={value}" for dim, value in dims.items()), f"draw{draw}"])
            drawn.append(Case(name, fill_inputs(reference, dims, name, draw)))
    own = own_cases(model)
    leading = 1 if model.example is not None else 0
    return [*own[:leading], *drawn, *own[leading:]]


def own_cases(model: Model) -> list[Case]:
    """The user's own cases: the example, then those of `cases`.

    Raises:
        InputError: A file is missing or does not fit the declared inputs.
    """
    cases = []
    if model.example is not None:
        cases.append(Case("example", _case_file(model, model.example), given=True))
    for name, entry in model.cases.items():
        cases += [
            Case(made, arrays, _OUTSIDE_RANGE if entry.outside_range else "", given=True)
            for made, arrays in _given(model, name, entry)
        ]
    return cases


def _given(model: Model, name: str, entry: CaseFile) -> Iterator[tuple[str, dict[str, Array]]]:
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
    """The dims to export with: see `exported_dims`."""
    return exported_dims(model.dims)


def example(reference: Reference) -> dict[str, Array]:
    """Inputs for the export: the manifest's example, or a seeded draw.

    Where nothing is drawn: of the own cases within the model's range, if there are any, the first
    of which every dim is above 1, or else the first.
    """
    model = reference.model
    if model.example is not None:
        return _case_file(model, model.example)
    if model.draws:
        return fill_inputs(reference, example_dims(reference.model), "export", 0)
    own = _within_range(model)
    able = (case for case in own if min(dims_of(reference, case.inputs).values(), default=2) > 1)
    return next(able, own[0]).inputs


def timed_inputs(
    reference: Reference, dims: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, Array]]:
    """Inputs to measure speed with: a seeded draw, or, where nothing is drawn, an own case.

    Args:
        reference: Gives the inputs' shapes.
        dims: Values of the symbolic dims; where nothing is drawn, those that the case must have.

    Returns:
        The dims, and the inputs.

    Raises:
        InputError: No own case has these sizes.
    """
    model = reference.model
    if model.draws:
        return dict(dims), fill_inputs(reference, dims, "latency", 0)
    for case in _within_range(model):
        held = dims_of(reference, case.inputs)
        if dims.items() <= held.items():
            return held, case.inputs
    wanted = ", ".join(f"{dim} = {size}" for dim, size in dims.items())
    raise InputError(
        f"{model.name}: latency.dims asks for {wanted}, and with draws = 0 only inputs of your own "
        "are timed, of which none has these sizes: add such a case to `cases`, or drop the point"
    )


def _within_range(model: Model) -> list[Case]:
    """The user's own cases but those outside the model's range; all, where there are no others."""
    own = own_cases(model)
    return [case for case in own if not case.lenient] or own


def dims_of(reference: Reference, inputs: Mapping[str, Array]) -> dict[str, int]:
    """The values of the dims that stand by themselves in an input's shape."""
    model = reference.model
    return {
        size: held
        for name, shape in reference.shapes.items()
        for size, held in zip(shape, inputs[name].shape, strict=False)
        if isinstance(size, str) and size in model.dims
    }


def fill_inputs(
    reference: Reference, dims: Mapping[str, int], case: str, draw: int
) -> dict[str, Array]:
    """Arrays for every input as the manifest says to fill them.

    Args:
        reference: Gives the inputs' shapes.
        dims: Values of the symbolic dims.
        case: Seeds the draw, with the manifest's seed, the model and the input.
        draw: Which examples of a file to take.

    Raises:
        InputError: A file does not fit, or a size is no whole number with these dims.
    """
    import numpy as np

    model = reference.model
    arrays = {}
    for name, entry in model.inputs.items():
        try:
            shape = shape_at(reference.shapes[name], dims)
        except SizeError as error:
            raise InputError(f"{model.name}: input {name!r}: {error}") from None
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


def _case_file(model: Model, file: str) -> dict[str, Array]:
    arrays = load_arrays(model.root / file, list(model.inputs))
    return {name: checked_dtype(model, name, arrays[name], f"{file}: ") for name in model.inputs}


def _draw(rng: np.random.Generator, entry: Input, shape: tuple[int, ...]) -> Array:
    import numpy as np

    if not math.prod(shape):
        return np.zeros(shape)
    if entry.fill == "mask":
        return masks.drawn(rng, entry, shape or (1,)).reshape(shape)
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
    array = checked_dtype(model, name, array)
    if array.shape != shape:
        raise InputError(
            f"{path}: input {name!r}: examples give {list(array.shape)}, declared {list(shape)}"
        )
    return array
