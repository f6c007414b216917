"""The user's files that have a part in an artefact, or in what is found of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pytest_onnxcheck.engine.artefacts.artefact import artefact_files
from pytest_onnxcheck.engine.reference.imports import sources, sources_behind
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.libraries import library_files
from pytest_onnxcheck.errors import StageError
from pytest_onnxcheck.manifest import Model, Variant

__all__ = ["made_from", "rests_on"]


def made_from(reference: Reference, variant: Variant) -> set[Path]:
    """The user's files that have a part in the artefact: code, checkpoint and data."""
    model = reference.model
    if variant.file is not None:
        return {*_code(reference, ()), *_weights(model), *artefact_files(variant.file)}
    behind = [model.shapes, *model.translations_for(variant.exporter).values()]
    files = [model.example, *(entry.file for entry in model.inputs.values())]
    calibration = model.calibration if variant.traits.calibrated else None
    if calibration is not None:
        behind.append(calibration.source)
        files += [calibration.file, calibration.folder]
    data = {found for file in files if file for found in _inside(model.root / file)}
    data.update(model.depended().values())
    return {*_code(reference, behind), *_weights(model), *data}


def rests_on(reference: Reference, variant: Variant) -> set[Path]:
    """The files and folders on which everything rests that the checks of a variant find.

    Besides what the artefact is made from: cases, labelled samples, a metric, the artefact of an
    earlier release, libraries of operators, and what a factory reads of which a given file is not
    made.

    Raises:
        StageError: A module cannot be imported.
        OSError: A file is missing.
    """
    model, accuracy = reference.model, reference.model.accuracy
    named = [*model.cases.values(), *(() if accuracy is None else (accuracy,))]
    behind = [each.source for each in named]
    behind += [accuracy.metric] if accuracy is not None and ":" in accuracy.metric else []
    data = {model.root / each.file for each in named if each.file} | {*model.depended().values()}
    if model.calibration is not None and model.calibration.folder:
        data.add(model.root / model.calibration.folder)  # with what is added to it later
    if variant.baseline is not None:
        data |= {*artefact_files(variant.baseline)}
    code = _code(reference, behind)
    return {*made_from(reference, variant), *code, *data, *_libraries(model)}


def _code(reference: Reference, behind: Iterable[str | None]) -> Iterator[Path]:
    model = reference.model
    yield from sources(reference.module, model.factory)
    for path in (model.factory, *behind):
        if path:
            yield from sources_behind(path, model.root)


def _weights(model: Model) -> Iterator[Path]:
    for path in (model.checkpoint, model.pretrained):
        if path is not None:
            yield from _inside(path)


def _inside(path: Path) -> list[Path]:
    """The file, or the files in the folder."""
    return [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]


def _libraries(model: Model) -> Iterator[Path]:
    for entry in model.operator_libraries:
        try:
            yield from library_files([entry])
        except (StageError, OSError):  # it is not there, which the checks say
            continue
