"""The data of static quantization: read, checked and hashed before anything is built from it.

What is wrong with it is reported here, as a fault of the data: ONNX Runtime would name the model,
or take ranges from it without a word.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.arrays import (
    arrays_sha256,
    copied,
    given_arrays,
    load_arrays,
    runs_of,
)
from pytest_onnxcheck.engine.inputs.calibration_checks import (
    check_data,
    check_shapes,
    constant_inputs,
    declared_shape,
    has_rows,
    recipe,
)
from pytest_onnxcheck.engine.inputs.cases import example_dims, fill_inputs, generator, own_cases
from pytest_onnxcheck.engine.inputs.sources import copied_batch, reading, running, seeded
from pytest_onnxcheck.engine.reference.imports import import_named
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.errors import InputError, QuantizeError
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.manifest import sections as s
from pytest_onnxcheck.measurement import CalibrationMeasurement

if TYPE_CHECKING:
    import numpy as np

    Batch = dict[str, np.ndarray[Any, Any]]
    #: where it comes from, for an error, and its arrays
    Given = tuple[str, Batch]

__all__ = ["CalibrationData", "load_calibration"]

#: examples or batches that are taken when `count` is not written
_AT_MOST = 64

#: random draws when `count` is not written
_DRAWS = 16


@dataclass(frozen=True)
class CalibrationData:
    """The arrays that static quantization takes its ranges from.

    Attributes:
        batches: Inputs by name, ready to run.
        measured: Where they come from, their hash, and what is suspicious about them.
    """

    batches: list[Batch]
    measured: CalibrationMeasurement


def load_calibration(reference: Reference) -> CalibrationData:
    """The data that `[models.NAME.calibration]` names, or draws of the declared inputs.

    Where nothing is drawn, the user's own cases are taken in their place.

    In files the first axis counts examples: rows, or whole inputs (`arrays.runs_of`).

    Raises:
        QuantizeError: The data is missing, unreadable or too little, or its names, dtypes, shapes
            or values are not those of the declared inputs.
        InputError: There is none, and the declared inputs cannot be drawn.
    """
    model = reference.model
    wanted = model.calibration or s.Calibration()
    random, number = False, None
    _check_batch(reference, wanted.batch)
    if wanted.source is not None:
        batches = _of_source(reference, wanted.source, wanted.count)
        origin = f"{len(batches)} batches of {wanted.source}"
    elif wanted.file is not None or wanted.folder is not None:
        examples = _of_files(reference, wanted)
        batches = _stacked(reference, examples, wanted.batch)
        origin = f"{len(examples)} examples of {wanted.file or wanted.folder}"
    elif not model.draws:
        own = _own(reference, wanted.count)
        batches = _stacked(reference, own, wanted.batch)
        origin = f"{len(own)} inputs of your own (`cases`, `example`)"
    else:
        drawn = _draws(reference, wanted.count or _DRAWS)
        batches = _stacked(reference, drawn, wanted.batch)
        random = any(
            entry.file is None and entry.fill != "constant" for entry in model.inputs.values()
        )
        if random:
            origin = f"{len(drawn)} random draws"
        else:
            number = _distinct(reference, batches)
            origin = f"{number} examples in {len(drawn)} draws of the inputs' files"
    constant, varies = constant_inputs(model, batches)
    measured = CalibrationMeasurement(
        origin=origin,
        examples=_number(reference, batches) if number is None else number,
        sha256=arrays_sha256(batches),
        random=random,
        constant=constant,
        varies=varies,
    )
    return CalibrationData(batches, measured)


def _number(reference: Reference, batches: list[Batch]) -> int:
    """Rows of the first input that has them, or else runs."""
    rows = next((name for name in reference.model.inputs if has_rows(reference, name)), None)
    return len(batches) if rows is None else sum(len(batch[rows]) for batch in batches)


def _distinct(reference: Reference, batches: list[Batch]) -> int:
    """Examples that differ: draws begin a file anew when it ends."""
    cut = [name for name in reference.model.inputs if has_rows(reference, name)]
    found = set()
    for batch in batches:
        for row in range(len(batch[cut[0]]) if cut else 1):
            example = {name: array[row] if name in cut else array for name, array in batch.items()}
            found.add(arrays_sha256([example]))
    return len(found)


def _check_batch(reference: Reference, batch: int) -> None:
    fixed = [name for name in reference.model.inputs if not has_rows(reference, name)]
    if batch > 1 and fixed:
        raise QuantizeError(
            f"{reference.model.name}: calibration.batch = {batch}, but input {fixed[0]!r} has "
            f"shape {declared_shape(reference, fixed[0])}, whose first size is not the batch: each "
            "example is a whole input. Drop batch, or make the first size a symbolic dim named "
            '"batch"'
        )


def _of_files(reference: Reference, wanted: s.Calibration) -> list[Given]:
    """The examples of file or folder that `count` and `seed` choose."""
    model = reference.model
    files = _files(model, wanted)
    limit = wanted.count or _AT_MOST
    if wanted.seed is None:
        taken = list(itertools.islice(_examples(reference, files), limit))
    else:
        # read twice, so that only what is chosen is held
        total = sum(1 for _ in _examples(reference, files))
        shuffled = generator(model, "calibration", str(wanted.seed)).permutation(total)
        order = shuffled[:limit].tolist()
        chosen = set(order)
        read = enumerate(_examples(reference, files))
        held = {index: example for index, example in read if index in chosen}
        taken = [held[index] for index in order]
    where = wanted.file or wanted.folder
    if not taken:
        raise QuantizeError(
            f"{model.name}: {where} holds no examples to calibrate with: their number is the size "
            "of the first axis; put some in"
        )
    if len(taken) < (wanted.count or 0):
        raise QuantizeError(
            f"{model.name}: {where} holds {len(taken)} examples, calibration.count asks for "
            f"{wanted.count}: give more, or set count = {len(taken)}"
        )
    for name, example in taken:
        check_data(reference, name, example)
    return taken


def _files(model: Model, wanted: s.Calibration) -> dict[str, Path]:
    """Name for a person -> path, in the order in which they are read."""
    relative = f"relative to the manifest's folder {model.root}"
    if wanted.file is not None:
        path = model.root / wanted.file
        if path.is_dir():
            raise QuantizeError(
                f"{model.name}: calibration file {path} is a folder: write calibration.folder = "
                f"{wanted.file!r} instead"
            )
        if not path.is_file():
            raise QuantizeError(
                f"{model.name}: calibration file {path} not found: write it with "
                f"{recipe(model)}, or correct calibration.file, {relative}"
            )
        return {wanted.file: path}
    assert wanted.folder is not None
    folder = model.root / wanted.folder
    if not folder.is_dir():
        raise QuantizeError(
            f"{model.name}: calibration folder {folder} not found: make it, or correct "
            f"calibration.folder, {relative}"
        )
    files = sorted(path for path in folder.iterdir() if path.suffix in {".npy", ".npz"})
    if not files:
        raise QuantizeError(
            f"{model.name}: calibration folder {folder} holds no .npz and no .npy: write some "
            f"with {recipe(model)}"
        )
    return {f"{wanted.folder}/{path.name}": path for path in files}


def _examples(reference: Reference, files: Mapping[str, Path]) -> Iterator[Given]:
    model = reference.model
    for name, path in files.items():
        mend = f": write it with {recipe(model)}"
        with reading(QuantizeError, f"{model.name}: calibration data: ", mend):
            loaded = load_arrays(path, list(model.inputs))
        arrays = _by_input(model, name, loaded)
        _check_lengths(reference, name, arrays)
        cut = {key: runs_of(reference, key, array, 1) for key, array in arrays.items()}
        for run in range(min(map(len, cut.values()))):
            yield f"{name}[{run}]", {key: copied(runs[run]) for key, runs in cut.items()}


def _by_input(model: Model, where: str, arrays: object) -> Batch:
    """One array of the declared dtype for each input, in the order of the inputs."""
    try:
        return given_arrays(model, f"calibration data, {where}", arrays)
    except InputError as error:
        raise QuantizeError(str(error)) from None


def _check_lengths(reference: Reference, name: str, arrays: Batch) -> None:
    """Every array of a file holds the same number of examples."""
    single = any(not array.ndim for array in arrays.values())
    if single or len({len(runs_of(reference, key, arrays[key], 1)) for key in arrays}) > 1:
        held = ", ".join(f"{key} {list(array.shape)}" for key, array in arrays.items())
        raise QuantizeError(
            f"{reference.model.name}: calibration data, {name}: the first axis of every array "
            f"counts examples, and here is {held}: give the same number of each"
        )


def _of_source(reference: Reference, source: str, count: int | None) -> list[Batch]:
    """The batches of a callable or an iterable; torch's random numbers are seeded for it."""
    model = reference.model
    with reading(QuantizeError, f"{model.name}: calibration.source: "):
        target = import_named(source, model.root)
    failed = (
        f"{model.name}: calibration source {source} failed, which must be or return an iterable "
        "of {input: array} batches"
    )
    with running(QuantizeError, failed), seeded(model):
        given = target() if callable(target) else target
        several = [given] if isinstance(given, Mapping) else given
        # copied at once: what is yielded may be one buffer that is filled again
        batches = [copied_batch(b) for b in itertools.islice(several, count or _AT_MOST)]
    if not batches:
        raise QuantizeError(
            f"{model.name}: calibration source {source} gives no batches: give at least one; an "
            "iterator can be read only once, so name a callable that makes a new one"
        )
    if len(batches) < (count or 0):
        raise QuantizeError(
            f"{model.name}: {source} gives {len(batches)} batches, calibration.count asks for "
            f"{count}: give more, or set count = {len(batches)}"
        )
    names = [f"{source}[{index}]" for index in range(len(batches))]
    checked = [_by_input(model, name, batch) for name, batch in zip(names, batches, strict=True)]
    for name, batch in zip(names, checked, strict=True):
        check_data(reference, name, batch)
    return checked


def _draws(reference: Reference, count: int) -> list[Given]:
    dims = example_dims(reference.model)
    drawn = [
        (f"draw {draw}", fill_inputs(reference, dims, f"calibration{draw}", draw))
        for draw in range(count)
    ]
    for name, example in drawn:
        check_data(reference, name, example)
    return drawn


def _own(reference: Reference, count: int | None) -> list[Given]:
    """The user's own cases, without those that the model is not made for."""
    model = reference.model
    own = [(case.name, case.inputs) for case in own_cases(model) if not case.lenient]
    own = own[: count or _AT_MOST]
    if len(own) < (count or 1):
        raise QuantizeError(
            f"{model.name}: with draws = 0 int8-static is calibrated with inputs of your own, of "
            f"which there are {len(own)}, and {count or 1} wanted: name data in calibration.file, "
            "calibration.folder or calibration.source"
        )
    for name, inputs in own:
        check_data(reference, name, inputs)
    return own


def _stacked(reference: Reference, examples: list[Given], batch: int) -> list[Batch]:
    """Examples joined along their first axis, `batch` of them in one run."""
    import numpy as np

    if batch == 1:
        return [example for _, example in examples]
    joined = []
    for start in range(0, len(examples), batch):
        group = examples[start : start + batch]
        for name in reference.model.inputs:
            shapes = {example[name].shape[1:]: where for where, example in group}
            if len(shapes) > 1:
                held = ", ".join(f"{list(shape)} in {where}" for shape, where in shapes.items())
                raise QuantizeError(
                    f"{reference.model.name}: calibration data: rows of input {name!r} are {held}, "
                    f"which cannot be put into one run: drop calibration.batch = {batch}, or give "
                    "examples of one shape"
                )
        arrays = {
            name: np.concatenate([example[name] for _, example in group])
            for name in reference.model.inputs
        }
        check_shapes(reference, f"{group[0][0]} to {group[-1][0]} in one run", arrays)
        joined.append(arrays)
    return joined
