"""Checkpoints to ONNX files: exported, held against PyTorch, and put into place."""

from __future__ import annotations

import contextlib
import dataclasses
import glob
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.api.checking import Checked, check_artefact
from pytest_onnxcheck.api.recipe import (
    Recipe,
    Wanted,
    as_path,
    find_recipe,
    fixed,
    variants_of,
    with_batch,
)
from pytest_onnxcheck.cache.builds import BuildCache
from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.manifest.terms import variant_name
from pytest_onnxcheck.measurement import HashedFile
from pytest_onnxcheck.storage import parse
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.artefacts.artefact import Artefact
    from pytest_onnxcheck.engine.builds import Builds
    from pytest_onnxcheck.engine.reference.reference import Reference

__all__ = ["Exported", "ExportedFile", "Outcome", "export_each", "export_model", "matching"]


@dataclass(frozen=True)
class ExportedFile:
    """One artefact that was exported.

    Attributes:
        precision: See `terms.Precision`.
        exporter: `dynamo` or `torchscript`.
        opset: Its opset.
        path: Where it is; None where it failed, and was not put into place.
        files: The `.onnx`, then its external data, each with bytes and SHA-256.
        size_bytes: Bytes of all.
        size_ratio: The same as a share of the fp32 artefact's.
        seconds: What building it took.
        checked: The verdict; None where nobody asked for one.
        error: Why there is none; None where there is.
    """

    precision: str
    exporter: str
    opset: int
    path: Path | None
    files: tuple[HashedFile, ...] = ()
    size_bytes: int = 0
    size_ratio: float | None = None
    seconds: float = 0.0
    checked: Checked | None = None
    error: str | None = None

    @property
    def variant(self) -> str:
        """The name of its variant."""
        return variant_name(self.exporter, self.opset, self.precision)

    @property
    def ok(self) -> bool:
        """Whether it is there and did not fail."""
        return self.path is not None


@dataclass(frozen=True)
class Exported:
    """What became of one checkpoint.

    Attributes:
        model: The model's name.
        checkpoint: The file; None where the model is built from its seed.
        recipe: Where inputs, outputs and the rest come from, for people.
        files: The artefacts, fp32 first.
    """

    model: str
    checkpoint: Path | None
    recipe: str
    files: tuple[ExportedFile, ...]

    @property
    def ok(self) -> bool:
        """Whether every artefact is there."""
        return all(file.ok for file in self.files)

    def file(self, precision: str) -> ExportedFile:
        """The artefact of a precision.

        Raises:
            KeyError: There is none.
        """
        for file in self.files:
            if file.precision == precision:
                return file
        raise KeyError(precision)

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {**_plain(dataclasses.asdict(self)), "ok": self.ok}


@dataclass(frozen=True)
class Outcome:
    """One of several checkpoints: exported, or why not.

    Attributes:
        checkpoint: The file.
        exported: What became of it; None where it could not be begun.
        error: Why; None where it could.
    """

    checkpoint: Path
    exported: Exported | None
    error: str | None = None

    @property
    def ok(self) -> bool:
        """Whether every artefact of it is there."""
        return self.exported is not None and self.exported.ok

    def to_json(self) -> dict[str, Any]:
        """The same as JSON has it."""
        exported = None if self.exported is None else self.exported.to_json()
        found = {"checkpoint": str(self.checkpoint), "ok": self.ok, "error": self.error}
        return {**found, "exported": exported}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def matching(pattern: str) -> list[Path]:
    """The files that a pattern matches, in the order of their names; `**` goes into folders.

    Raises:
        OnnxCheckError: There is none.
    """
    names = glob.glob(pattern, recursive=True)  # noqa: PTH207 - it may be absolute
    found = sorted(map(Path, names))
    files = [path for path in found if path.is_file()]
    if not files:
        raise OnnxCheckError(
            f"no file matches {pattern!r}: put the pattern into quotes, and see what it matches "
            f"with ls {pattern}"
        )
    return files


def export_model(
    checkpoint: Path | str | None = None,
    *,
    manifest: Path | str | None = None,
    model: str | None = None,
    factory: str | None = None,
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    output: Path | str | None = None,
    batch_size: int | None = None,
    opset: int | None = None,
    exporter: str | None = None,
    precisions: Sequence[str] = (),
    dynamic: bool = True,
    validate: bool = True,
    artifacts: Path | str | None = None,
    cache: Path | str | None = None,
    cache_size: int | None = None,
    cache_remote: str | None = None,
    trust: bool = False,
) -> Exported:
    """Exports one model, in one precision or several.

    An artefact that fails its checks is not put into place.

    Args:
        checkpoint: Its weights, or the whole model; by default what the manifest's model has.
        manifest: A manifest that says how; by default `models.toml` where it has this checkpoint,
            else what can be found out by looking at it.
        model: The model's name in the manifest.
        factory: `module:callable` that builds the model, where there is no manifest.
        inputs: Shapes by input, e.g. `{"x": ("batch", 3, 224, 224)}`, likewise.
        output: The `.onnx` to write, or a folder; other precisions are put beside it, as
            `NAME-PRECISION.onnx`. Default: beside the checkpoint, under its name.
        batch_size: The batch to export with; with `dynamic=False` the only one it takes.
        opset: The opset; default: the recipe's first.
        exporter: `dynamo` or `torchscript`; likewise.
        precisions: E.g. `["fp32", "fp16", "int8-dynamic"]`; default: the recipe's.
        dynamic: Whether symbolic dims stay so.
        validate: Whether to hold what is exported against PyTorch.
        artifacts: A folder to keep builds in, as `--onnxcheck-artifacts`; default: a temporary one.
        cache: A folder where other jobs find them too, as `--onnxcheck-cache`.
        cache_size: Bytes that this folder is held to, as `--onnxcheck-cache-size`.
        cache_remote: Where machines share builds, as `--onnxcheck-cache-remote`.
        trust: Whether the checkpoint may run code when it is read: only for files of your own.

    Raises:
        OnnxCheckError: It cannot be begun: the checkpoint, the manifest or the model is wrong.
            What fails later is told of each artefact.
        StorageError: `cache_remote` is no address.
    """
    remote = None if cache_remote is None else parse(cache_remote)
    kept = partial(BuildCache, shared=as_path(cache), limit=cache_size, remote=remote)
    wanted = Wanted(batch_size, opset, exporter, precisions, dynamic)
    recipe = find_recipe(
        checkpoint, manifest=manifest, model=model, factory=factory, inputs=inputs, trust=trust
    )
    path = _output(recipe, as_path(output), as_path(checkpoint))
    with _builds(as_path(artifacts), kept) as builds:
        return _exported(builds, recipe, wanted, path, validate)


def export_each(
    checkpoints: Sequence[Path],
    *,
    output: Path | None = None,
    **options: Any,
) -> Iterator[Outcome]:
    """Exports several checkpoints one after the other; one that fails does not stop the others.

    Args:
        checkpoints: The files.
        output: A folder for all, or, of a single one, also a file.
        options: Those of `export_model`.

    Raises:
        OnnxCheckError: Two of them would be written to one file.
    """
    places = _places(checkpoints, output)
    for checkpoint, path in zip(checkpoints, places, strict=True):
        try:
            yield Outcome(checkpoint, export_model(checkpoint, output=path, **options))
        except OnnxCheckError as error:
            yield Outcome(checkpoint, None, str(error))


def _places(checkpoints: Sequence[Path], output: Path | None) -> list[Path]:
    """Where each checkpoint's `.onnx` goes: named after it, and after its folder where needed."""
    if len(checkpoints) == 1 and output is not None:
        is_file = output.suffix == ".onnx" and not output.is_dir()
        return [output if is_file else output / f"{checkpoints[0].stem}.onnx"]
    if output is not None and output.suffix == ".onnx":
        raise OnnxCheckError(
            f"{output}: {len(checkpoints)} checkpoints cannot go into one file: name a folder"
        )
    stems = Counter(path.stem for path in checkpoints)
    found = []
    for path in checkpoints:
        folder = path.parent if output is None else output
        twice = output is not None and stems[path.stem] > 1
        name = f"{path.parent.name}-{path.stem}" if twice else path.stem
        found.append(folder / f"{name}.onnx")
    doubled = [path for path, count in Counter(found).items() if count > 1]
    if doubled:
        raise OnnxCheckError(
            f"{doubled[0]}: several of the checkpoints would be written there: export them one by "
            "one, each with an output of its own"
        )
    return found


def _output(recipe: Recipe, output: Path | None, checkpoint: Path | None) -> Path:
    checkpoint = checkpoint or recipe.model.checkpoint
    if output is not None and output.suffix == ".onnx" and not output.is_dir():
        return output
    name = recipe.model.name if checkpoint is None else checkpoint.stem
    folder = output or (Path() if checkpoint is None else checkpoint.parent)
    return folder / f"{name}.onnx"


@contextlib.contextmanager
def _builds(artifacts: Path | None, kept: Callable[[Path], BuildCache]) -> Iterator[Builds]:
    from pytest_onnxcheck.engine.builds import Builds

    if artifacts is not None:
        yield Builds(artifacts, kept(artifacts))
        return
    with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
        yield Builds(Path(folder), kept(Path(folder)))


def _exported(
    builds: Builds, recipe: Recipe, wanted: Wanted, output: Path, validate: bool
) -> Exported:
    model = with_batch(recipe.model, wanted)
    reference = builds.reference(model)
    if not wanted.dynamic:
        reference = fixed(reference)
    variants = variants_of(reference.model, wanted)
    files = tuple(
        _file(builds, reference, variant, _named(output, variant), validate) for variant in variants
    )
    return Exported(model.name, model.checkpoint, recipe.origin, files)


def _named(output: Path, variant: Variant) -> Path:
    if variant.precision == "fp32":
        return output
    return output.with_name(f"{output.stem}-{variant.precision}.onnx")


def _file(
    builds: Builds,
    reference: Reference,
    variant: Variant,
    path: Path,
    validate: bool,
) -> ExportedFile:
    from pytest_onnxcheck.engine.artefacts.placing import place

    assert variant.opset is not None
    empty = ExportedFile(variant.precision, variant.exporter, variant.opset, None)
    try:
        source = builds.float_artefact(reference, variant)
        built = builds.artefact(reference, variant)
    except OnnxCheckError as error:
        return dataclasses.replace(empty, error=str(error))
    checked = None
    if validate:
        checked = check_artefact(builds, reference, variant, built, source)
    made = dataclasses.replace(empty, checked=checked, **_facts(built, source))
    if checked is not None and checked.failures:
        return dataclasses.replace(made, error=checked.failures[0])
    try:
        placed = place(built, path)
    except OSError as error:
        return dataclasses.replace(made, error=f"{path}: cannot be written: {one_line(error)}")
    return dataclasses.replace(made, path=path, files=placed.files, size_bytes=placed.size_bytes)


def _facts(built: Artefact, source: Artefact) -> dict[str, Any]:
    return {
        "files": built.files,
        "size_bytes": built.size_bytes,
        "size_ratio": built.size_bytes / source.size_bytes,
        "seconds": built.seconds,
    }
