"""Labelled samples: read, checked against the declared inputs, and hashed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.arrays import (
    Runs,
    arrays_sha256,
    batch_dim,
    copied,
    given_arrays,
    load_arrays,
    runs_of,
)
from pytest_onnxcheck.engine.inputs.sources import copied_batch, reading, running, seeded
from pytest_onnxcheck.engine.reference.imports import import_object
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest.sections import Accuracy

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["Batch", "Samples", "load_samples"]

_PAIRS = "an iterable of batches ({input: array}, labels)"


@dataclass(frozen=True)
class Batch:
    """Inputs of one run by name, and the labels of its samples, which they count on axis 0."""

    inputs: dict[str, Array]
    labels: Array


@dataclass(frozen=True)
class Samples:
    """Labelled samples, kept in memory so that each variant meets the same ones.

    Attributes:
        where: Model and key of the manifest, for errors.
        data: Where they come from, for a person.
        batches: The batches, at least one.
        labels: The labels of all, [samples, ...].
        sha256: Hash of inputs and labels.
    """

    where: str
    data: str
    batches: list[Batch]
    labels: Array
    sha256: str


def load_samples(reference: Reference, accuracy: Accuracy) -> Samples:
    """Reads the samples that `[models.NAME.accuracy]` names.

    Raises:
        InputError: They are missing, too few, or do not fit the model.
    """
    data = accuracy.file or f"{accuracy.source}()"
    where = f"{reference.model.name}: accuracy.{'file' if accuracy.file else 'source'} {data}"
    with seeded(reference.model):
        batches = list(_batches(reference, accuracy, where))
    if not batches:
        raise InputError(
            f"{where}: gives no samples, expected {'arrays' if accuracy.file else _PAIRS}"
        )
    labels = joined([batch.labels for batch in batches], "labels", where)
    if len(labels) < 2:
        raise InputError(
            f"{where}: gives {len(labels)} samples; there is no interval of fewer "
            "than 2, and hundreds are needed to tell a small drop"
        )
    sha256 = arrays_sha256(
        arrays for batch in batches for arrays in (batch.inputs, {"labels": batch.labels})
    )
    return Samples(where, data, batches, labels, sha256)


def joined(parts: list[Array], what: str, where: str) -> Array:
    """Arrays of batches as one, along the first axis.

    Args:
        parts: The arrays, [samples, ...].
        what: What they are, for the error.
        where: See `Samples`.

    Raises:
        InputError: They differ in shape beyond the first axis.
    """
    import numpy as np

    try:
        return np.concatenate(parts)
    except ValueError as error:
        shapes = ", ".join(map(str, sorted({part.shape[1:] for part in parts}, key=str)))
        raise InputError(
            f"{where}: {what} of different batches differ in shape beyond the first axis "
            f"({shapes}): pad the samples to one size"
        ) from error


def _batches(reference: Reference, accuracy: Accuracy, where: str) -> Iterator[Batch]:
    """The samples, at most `count` of them, checked against the declared inputs."""
    left = accuracy.count
    for index, given in enumerate(_raw_batches(reference, accuracy, where)):
        if left == 0:
            return
        batch = _checked(reference, f"{where}: batch {index}", given, left)
        left = None if left is None else left - len(batch.labels)
        yield batch


def _raw_batches(reference: Reference, accuracy: Accuracy, where: str) -> Iterator[Any]:
    """Yields `(inputs, labels)`, of a file in batches, of a source as it gives them."""
    model = reference.model
    if accuracy.file is not None:
        yield from _of_file(reference, accuracy, where)
        return
    assert accuracy.source is not None
    with reading(InputError, f"{where}: "):
        function = import_object(accuracy.source, model.root)
    with running(InputError, f"{where} failed, expected {_PAIRS}"):
        for given in function():
            yield _owned(given)


def _of_file(reference: Reference, accuracy: Accuracy, where: str) -> Iterator[Any]:
    assert accuracy.file is not None
    names = list(reference.model.inputs)
    expected = (
        f". Expected a .npz with one array per input ({', '.join(names)}) and labels as "
        f"{accuracy.labels!r} (accuracy.labels)"
    )
    with reading(InputError, f"{where}: ", expected):
        arrays = load_arrays(reference.model.root / accuracy.file, [*names, accuracy.labels])
    labels = arrays.pop(accuracy.labels)
    cut = _runs(reference, accuracy.batch, where, arrays)
    each = next((_in_run(reference, name, cut[name]) for name in _axes(reference)), 1)
    numbers = {*map(len, cut.values()), math.ceil(len(labels) / each) if labels.ndim else -1}
    if len(numbers) > 1:
        raise _uneven(reference, where, arrays, labels)
    for run in range(numbers.pop()):
        inputs = {name: runs[run] for name, runs in cut.items()}
        yield inputs, labels[run * each : (run + 1) * each]


def _runs(
    reference: Reference, batch: int, where: str, arrays: dict[str, Array]
) -> dict[str, Runs]:
    dim = batch_dim(reference)
    together = all(
        reference.shapes[name][:1] == (dim,) and array.ndim == len(reference.shapes[name])
        for name, array in arrays.items()
    )
    found = {}
    for name, array in arrays.items():
        declared = reference.shapes[name]
        runs = runs_of(reference, name, array, batch if together else 1)
        if runs.rows is None and array.ndim != len(declared) + 1:
            raise InputError(
                f"{where}: input {name!r} {list(array.shape)} of shape "
                f"[{', '.join(map(str, declared))}] cannot be cut into samples: its first axis "
                "must count them, as the batch, or count whole inputs, as one axis more"
            )
        found[name] = runs
    return found


def _in_run(reference: Reference, name: str, runs: Runs) -> int:
    """Samples in a run, by an input that counts them."""
    return runs.rows or runs.array.shape[1 + _axes(reference)[name]]


def _owned(given: Any) -> Any:
    """A pair of inputs and labels as new arrays; what is none stays as it is."""
    if not isinstance(given, tuple | list) or len(given) != 2 or not isinstance(given[0], Mapping):
        return given
    return copied_batch(given[0]), copied(given[1])


def _checked(reference: Reference, where: str, given: Any, most: int | None) -> Batch:
    """One batch, of at most so many samples."""
    import numpy as np

    if not isinstance(given, tuple | list) or len(given) != 2:
        raise InputError(
            f"{where} is a {type(given).__name__}, expected a pair ({{input: array}}, labels)"
        )
    model = reference.model
    inputs = given_arrays(model, where.removeprefix(f"{model.name}: "), given[0])
    labels = np.asarray(given[1])
    axes = _axes(reference)
    counted = {inputs[name].shape[axis : axis + 1] for name, axis in axes.items()}
    if {labels.shape[:1], *counted} != {labels.shape[:1]} or not labels.ndim:
        raise _uneven(reference, where, inputs, labels)
    size = _fixed_size(reference)
    if size is not None and min(len(labels), most or len(labels)) != size:
        raise InputError(
            f"{where} has {min(len(labels), most or len(labels))} samples, but the inputs are "
            f"declared with {size} on their first axis: give whole batches of {size} (count: a "
            "multiple of it), or make the axis a dim"
        )
    taken = {
        name: array[(*[slice(None)] * axes[name], slice(most))] if name in axes else array
        for name, array in inputs.items()
    }
    return Batch(taken, labels[:most])


def _uneven(
    reference: Reference, where: str, inputs: dict[str, Array], labels: Array
) -> InputError:
    shapes = ", ".join(
        f"{name} {list(array.shape)}" for name, array in {**inputs, "labels": labels}.items()
    )
    first = not any(_axes(reference).values())
    axis = "first axis of each array" if first else f"axis {batch_dim(reference)!r} of each input"
    return InputError(f"{where}: the {axis} must count the samples: {shapes}")


def _axes(reference: Reference) -> dict[str, int]:
    """The axis that counts samples, of the inputs that have one.

    It is the batch, wherever it stands; where there is none, a first axis with a fixed size.
    """
    dim, shapes = batch_dim(reference), reference.shapes
    if dim is not None:
        return {name: shape.index(dim) for name, shape in shapes.items() if dim in shape}
    return {name: 0 for name, shape in shapes.items() if shape and isinstance(shape[0], int)}


def _fixed_size(reference: Reference) -> int | None:
    """Samples in a run, where the inputs are declared with their number."""
    first = (reference.shapes[name][axis] for name, axis in _axes(reference).items())
    return next((size for size in first if isinstance(size, int)), None)
