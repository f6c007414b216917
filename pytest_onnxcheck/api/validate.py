"""Is a manifest right: what it says, the files it names, the code it imports, its targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pytest_onnxcheck.errors import ExportError, ManifestError, OnnxCheckError, StageError
from pytest_onnxcheck.manifest import Model, Problem, Target, load_manifest
from pytest_onnxcheck.manifest.positions import KeyPath, key_lines
from pytest_onnxcheck.wording import one_line

__all__ = ["Skipped", "Validation", "validate"]

#: a key below the model's table, and what is wrong with it
Found = Iterator[tuple[KeyPath, str]]


@dataclass(frozen=True)
class Skipped:
    """What `pytest --onnxcheck` would skip on this machine.

    Attributes:
        models: Whose.
        what: Which checks, for a person.
        reason: Why.
    """

    models: tuple[str, ...]
    what: str
    reason: str


@dataclass(frozen=True)
class Validation:
    """What was found in a manifest.

    Attributes:
        manifest: The file.
        variants: Node ids of the variants, `MODEL::VARIANT`.
        problems: What is wrong, in the order of the file; each text begins with file and line.
        skipped: What would be skipped, and why.
        imported: Whether code was imported and models were built.
    """

    manifest: Path
    variants: tuple[str, ...]
    problems: tuple[Problem, ...]
    skipped: tuple[Skipped, ...] = ()
    imported: bool = True

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def check(self) -> None:
        """Raises a ManifestError that lists every problem, if there is one."""
        if self.problems:
            raise ManifestError("\n".join(problem.text for problem in self.problems))

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {**dataclasses.asdict(self), "manifest": str(self.manifest), "ok": self.ok}


def validate(
    manifest: Path | str = "models.toml", *, imports: bool = True, targets: bool = True
) -> Validation:
    """Checks a manifest and everything it names; runs no check of any model.

    Every file is opened. With `imports`, every factory and source is imported, every model built
    with its weights, and run once on its example.

    Args:
        manifest: The file.
        imports: Whether to import code and build models: slower, and it needs torch.
        targets: Whether to open a session on every target.

    Raises:
        ManifestError: The file as a whole cannot be used.
    """
    path = Path(manifest)
    read = load_manifest(path, shown=str(manifest))
    lines = key_lines(path.read_text(encoding="utf-8"))
    found: dict[str, Problem] = {problem.text: problem for problem in read.problems}
    for model in read.models.values():
        for key, text in _problems(model, imports=imports):
            line = _line(lines, ("models", model.section, *key))
            full = f"{manifest}:{line}: [models.{model.section}] {text}"
            found.setdefault(full, Problem(line, full, model.section))
    skipped = list(_marked(read.models.values()))
    if targets:
        skipped += _resolved(list(read.models.values()), str(manifest), lines, found, imports)
    return Validation(
        manifest=path,
        variants=tuple(
            f"{model.name}::{variant.name}"
            for model in read.models.values()
            for variant in model.variants
        ),
        problems=tuple(sorted(found.values(), key=lambda problem: problem.line)),
        skipped=tuple(skipped),
        imported=imports,
    )


def _line(lines: dict[KeyPath, int], path: KeyPath) -> int:
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _problems(model: Model, *, imports: bool) -> Found:
    """What is wrong with the files, the code and the parts of a model."""
    files = [
        *_checkpoint(model),
        *_artefacts(model),
        *_arrays(model),
        *_libraries(model, imports=imports),
    ]
    yield from files
    if not imports:
        return
    code = list(_code(model))
    yield from code
    wrong = {key[0] for key, _ in [*files, *code]}
    unbuilt = {"checkpoint", "pretrained", "factory", "shapes"} & wrong
    if not unbuilt:
        yield from _built(model, fed=not files)


def _checkpoint(model: Model) -> Found:
    """The checkpoint, or the folder of `pretrained`: there, and readable by what it begins with."""
    from pytest_onnxcheck.engine.reference.folders import checkpoint_problem
    from pytest_onnxcheck.engine.reference.pretrained import check_folder

    if model.checkpoint is not None:
        problem = checkpoint_problem(model.checkpoint, model.root)
        if problem is not None:
            yield ("checkpoint",), f"checkpoint: {problem}"
    if model.pretrained is not None:
        yield from _attempt(("pretrained",), lambda: check_folder(model))


def _artefacts(model: Model) -> Found:
    """Given artefacts and baselines: there, ONNX, and complete with their external data."""
    given = {variant.file: "onnx" for variant in model.variants if variant.file is not None}
    given |= {each.baseline: "baseline" for each in model.variants if each.baseline is not None}
    for path, key in given.items():
        problem = _artefact_problem(path)
        if problem is not None:
            yield (key,), f"{key}: {problem}"


def _artefact_problem(path: Path) -> str | None:
    from pytest_onnxcheck.engine.artefacts.external import data_faults
    from pytest_onnxcheck.engine.artefacts.reading import read_model
    from pytest_onnxcheck.files import not_found

    if not path.is_file():
        return not_found(path)
    try:
        read_model(path)
    except ExportError as error:
        return str(error)
    faults = data_faults(path)
    return f"{path}: external data: {'; '.join(faults)}" if faults else None


def _libraries(model: Model, *, imports: bool) -> Found:
    """Libraries of custom operators: there; those that a module knows, where it is imported."""
    from pytest_onnxcheck.engine.runtime.libraries import library_files
    from pytest_onnxcheck.manifest.targets import is_library_file

    for entry in model.operator_libraries:
        if imports or is_library_file(entry):
            yield from _attempt(("operator_libraries",), partial(library_files, [entry]))


def _arrays(model: Model) -> Found:
    """Files of inputs: there, readable, and with the arrays that are asked for."""
    names = list(model.inputs)
    from pytest_onnxcheck.engine.inputs.arrays import load_arrays

    wanted: list[tuple[KeyPath, str, list[str]]] = []
    if model.example is not None:
        wanted.append((("example",), model.example, names))
    for name, entry in model.inputs.items():
        if entry.file is not None:
            wanted.append((("inputs", name, "file"), entry.file, [entry.key or name]))
    for name, case in model.cases.items():
        if case.file is not None:
            wanted.append((("cases", name, "file"), case.file, names))
    calibration, accuracy = model.calibration, model.accuracy
    if calibration is not None and calibration.file is not None:
        wanted.append((("calibration", "file"), calibration.file, names))
    if accuracy is not None and accuracy.file is not None:
        wanted.append((("accuracy", "file"), accuracy.file, [*names, accuracy.labels]))
    for key, file, held in wanted:
        yield from _attempt(key, partial(load_arrays, model.root / file, held))
    if calibration is not None and calibration.folder is not None:
        folder = model.root / calibration.folder
        if not any(folder.glob("*.np[yz]")):
            what = "holds no .npy or .npz" if folder.is_dir() else "no such folder"
            yield ("calibration", "folder"), f"calibration.folder: {folder}: {what}"


def _code(model: Model) -> Found:
    """What the manifest names as `module:callable`."""
    from pytest_onnxcheck.engine.reference.imports import import_named, import_object

    named: list[tuple[KeyPath, str | None]] = [
        (("factory",), model.factory),
        (("shapes",), model.shapes),
        *((("cases", name, "source"), case.source) for name, case in model.cases.items()),
        *(
            (("translations", operator), path)
            for operator, by in model.translations.items()
            for path in by.values()
        ),
    ]
    if model.accuracy is not None:
        metric = model.accuracy.metric
        named.append((("accuracy", "source"), model.accuracy.source))
        named.append((("accuracy", "metric"), metric if ":" in metric else None))
    for key, path in named:
        if path is not None:
            yield from _attempt(key, partial(import_object, path, model.root))
    source = None if model.calibration is None else model.calibration.source
    if source is not None:  # it may be an iterable
        yield from _attempt(("calibration", "source"), lambda: import_named(source, model.root))


def _built(model: Model, *, fed: bool) -> Found:
    """The model with its weights; run once, and its data set against its inputs, where it is fed.

    Args:
        model: The model.
        fed: Whether the files of its inputs are all right.
    """
    from pytest_onnxcheck.engine.inputs.calibration import load_calibration
    from pytest_onnxcheck.engine.inputs.cases import example
    from pytest_onnxcheck.engine.inputs.samples import load_samples
    from pytest_onnxcheck.engine.reference.load import load_reference

    try:
        reference = load_reference(model)
    except StageError as error:
        key = "pretrained" if model.pretrained is not None else "factory"
        key = "checkpoint" if model.checkpoint is not None else key
        yield (key,), one_line(error)
        return
    if not fed:
        return
    yield from _attempt(("inputs",), lambda: reference.run(example(reference)))
    calibration, accuracy = model.calibration, model.accuracy
    if calibration is not None and calibration.source is None:
        yield from _attempt(("calibration",), lambda: load_calibration(reference))
    if accuracy is not None and accuracy.file is not None:
        yield from _attempt(("accuracy",), lambda: load_samples(reference, accuracy))


def _attempt(key: KeyPath, read: Callable[[], object]) -> Found:
    """What is wrong when something is read: nothing, or one error."""
    try:
        read()
    except OnnxCheckError as error:
        named = ".".join(map(str, key))
        text = one_line(error)
        yield key, text if named in text else f"{named}: {text}"


def _marked(models: Iterable[Model]) -> Iterator[Skipped]:
    """What the manifest itself says is to be skipped."""
    for model in models:
        for mark in model.skip:
            checks = ", ".join(mark.checks or ("every check",))
            where = "".join(f" of {', '.join(names)}" for names in (mark.variants,) if names)
            on = "".join(f" on {', '.join(names)}" for names in (mark.targets,) if names)
            yield Skipped((model.name,), f"{checks}{where}{on}", mark.reason)


def _resolved(
    models: list[Model],
    manifest: str,
    lines: dict[KeyPath, int],
    found: dict[str, Problem],
    imports: bool,
) -> Iterator[Skipped]:
    """Opens every target once; what is missing is skipped, or a problem where it is required."""
    from pytest_onnxcheck.engine.runtime.presence import presence, torch_absence

    users: dict[tuple[str, tuple[str, ...]], list[Model]] = {}
    for model in models:
        libraries = _usable(model) if imports else ()
        for name in model.targets:
            users.setdefault((name, libraries), []).append(model)
    for (name, libraries), using in users.items():
        target: Target = dataclasses.replace(using[0].target(name), libraries=libraries)
        seen = presence(target)
        requiring = [model for model in using if name in model.required_targets]
        if seen.problem is None:
            absent = torch_absence(target) if imports else None
            if absent is not None:
                yield Skipped(_names(using), f"latency on {name}", one_line(absent))
            continue
        if seen.absent:
            others = [model for model in using if model not in requiring]
            if others:
                yield Skipped(_names(others), f"every check on {name}", one_line(seen.problem))
        for model in requiring if seen.absent else using:
            key = "required_targets" if seen.absent else "targets"
            line = _line(lines, ("models", model.section, key))
            text = f"{manifest}:{line}: [models.{model.section}] {key}: {one_line(seen.problem)}"
            found.setdefault(text, Problem(line, text, model.section))


def _usable(model: Model) -> tuple[str, ...]:
    """A model's libraries of operators; none where one is missing, which is told by itself."""
    return model.operator_libraries if not list(_libraries(model, imports=True)) else ()


def _names(models: Sequence[Model]) -> tuple[str, ...]:
    return tuple(model.name for model in models)
