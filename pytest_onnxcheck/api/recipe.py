"""How one checkpoint is exported: from a manifest, or from what can be told by looking at it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.api.draft import explore
from pytest_onnxcheck.errors import ManifestError, OnnxCheckError
from pytest_onnxcheck.manifest import Model, Variant, load_manifest
from pytest_onnxcheck.manifest.load import parse_manifest
from pytest_onnxcheck.manifest.sizes import ANY, Shape, SizeError, size_at
from pytest_onnxcheck.progress import stage

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.reference.reference import Reference

__all__ = ["Recipe", "Wanted", "as_path", "find_recipe", "fixed", "variants_of", "with_batch"]


@dataclass(frozen=True)
class Recipe:
    """A model of a manifest, or one that was drafted for a checkpoint.

    Attributes:
        model: The model, with the checkpoint asked for.
        origin: Where it comes from, for people.
    """

    model: Model
    origin: str


@dataclass(frozen=True)
class Wanted:
    """What the caller asks for beyond the recipe; None leaves it to the recipe.

    Attributes:
        batch_size: Size of the first symbolic dim: of the example, or, where it is static, of all.
        opset: The opset.
        exporter: `dynamo` or `torchscript`.
        precisions: See `terms.Precision`.
        dynamic: Whether symbolic dims stay symbolic.
    """

    batch_size: int | None = None
    opset: int | None = None
    exporter: str | None = None
    precisions: Sequence[str] = ()
    dynamic: bool = True


def find_recipe(
    checkpoint: Path | str | None,
    *,
    manifest: Path | str | None = None,
    model: str | None = None,
    factory: str | None = None,
    inputs: Mapping[str, Sequence[int | str]] | None = None,
    onnx: Path | None = None,
    trust: bool = False,
) -> Recipe:
    """The recipe for a checkpoint.

    A manifest decides where one is given. Without one, `models.toml` in the current folder does
    where it has a model for this checkpoint, or one that is named; else, or where a factory or
    inputs are given, what `init` would write.

    Args:
        checkpoint: The file; None takes the model's own.
        manifest: The manifest.
        model: The model's name there; not needed where the checkpoint tells, or there is one only.
        factory: `module:callable` that builds the model, where there is no manifest; it is looked
            for in the current folder.
        inputs: Shapes of the inputs, likewise.
        onnx: An artefact that exists, whose inputs are the model's where there is no manifest.
        trust: Whether the checkpoint may run code when it is read, where there is no manifest.

    Raises:
        ManifestError: The manifest is wrong, or has no such model.
        OnnxCheckError: Nothing can be told of the checkpoint.
    """
    checkpoint, manifest = as_path(checkpoint), as_path(manifest)
    drafted = factory is not None or bool(inputs)
    if manifest is not None and drafted:
        raise OnnxCheckError(
            "a manifest says what the factory and the inputs are: leave out either the manifest "
            "or factory and inputs"
        )
    here = Path("models.toml")
    if manifest is None and not drafted and here.is_file():
        found = _of_manifest(here, checkpoint, model, sure=model is not None)
        if found is not None:
            return found
    if manifest is not None:
        found = _of_manifest(manifest, checkpoint, model, sure=True)
        assert found is not None
        return found
    if model is not None:
        raise ManifestError(f"{model}: no manifest has it; name one: --manifest PATH")
    if checkpoint is None and factory is None:
        raise OnnxCheckError("name a checkpoint, or a manifest and a model of it")
    shapes = {name: tuple(shape) for name, shape in (inputs or {}).items()}
    root = Path.cwd()
    with stage("looking for the inputs of", str(checkpoint or factory)):
        explored = explore(
            checkpoint=checkpoint, factory=factory, onnx=onnx, inputs=shapes, trust=trust, root=root
        )
    # nothing was tried: the batch alone is dynamic, which most models export with
    fixed_dims = [] if onnx is not None else list(explored.interface.dims)[1:]
    made = explored.draft(fixed=fixed_dims)
    read = parse_manifest(made.text, root / "models.toml", shown="the drafted manifest")
    read.check()
    (drafted_model,) = read.models.values()
    return Recipe(drafted_model, made.origin)


def as_path(value: Path | str | None) -> Path | None:
    """What names a file, as a path."""
    return None if value is None else Path(value)


def _of_manifest(
    path: Path, checkpoint: Path | None, name: str | None, *, sure: bool
) -> Recipe | None:
    """The recipe in a manifest; None where it has none for the checkpoint and need not have."""
    read = load_manifest(path.absolute(), shown=str(path))
    models = list(read.models.values())
    if name is not None:
        chosen = [model for model in models if name in (model.name, model.section)]
    elif checkpoint is not None:
        chosen = [model for model in models if _same(_weights(model), checkpoint)]
        sections = {model.section for model in models if _weights(model) is not None}
        if not chosen and sure and len(sections) == 1:
            chosen = [model for model in models if model.section in sections]
    else:
        chosen = models if len(models) == 1 else []
    if not chosen:
        if not sure:
            return None
        read.check()
        there = ", ".join(model.name for model in models)
        what = f"no model {name!r}" if name else "it cannot be told which model is meant"
        raise ManifestError(f"{path}: {what}; name one of: {there} (--model NAME)")
    model = next((each for each in chosen if _same(_weights(each), checkpoint)), chosen[0])
    if checkpoint is not None:
        if model.pretrained is None:
            model = dataclasses.replace(model, checkpoint=checkpoint.absolute())
        else:
            model = dataclasses.replace(model, pretrained=checkpoint.absolute())
    return Recipe(model, f"[models.{model.section}] of {path}")


def _weights(model: Model) -> Path | None:
    return model.checkpoint or model.pretrained


def _same(one: Path | None, other: Path | None) -> bool:
    if one is None or other is None:
        return False
    return os.path.realpath(one) == os.path.realpath(other)


def variants_of(model: Model, wanted: Wanted) -> list[Variant]:
    """The variants to export: of one exporter and opset, the fp32 one first."""
    exported = [variant for variant in model.variants if variant.file is None]
    exporter = wanted.exporter or (exported[0].exporter if exported else "dynamo")
    opset = wanted.opset or (exported[0].opset if exported else 20)
    own = [each.precision for each in model.variants]
    precisions = list(dict.fromkeys(wanted.precisions or own))
    precisions.sort(key=lambda precision: precision != "fp32")
    return [model.variant(exporter, opset, precision) for precision in precisions]


def with_batch(model: Model, wanted: Wanted) -> Model:
    """The model with the batch size asked for as the first that is drawn, and so exported with.

    Raises:
        OnnxCheckError: It has no symbolic dim, or the size is none.
    """
    if wanted.batch_size is None:
        return model
    if wanted.batch_size < 1:
        raise OnnxCheckError(f"a batch of {wanted.batch_size}: give 1 or more")
    if not model.dims:
        raise OnnxCheckError(
            f"{model.name}: has no symbolic dim, its batch is fixed: write it into the shapes of "
            "its inputs, or leave out the batch size"
        )
    name = next(iter(model.dims))
    sizes = tuple(dict.fromkeys([wanted.batch_size, *model.dims[name]]))
    return dataclasses.replace(model, dims={**model.dims, name: sizes})


def fixed(reference: Reference) -> Reference:
    """The reference with every symbolic dim at one size: exported without dynamic dims.

    It is the first of the dim that is above 0, so that something is computed. What nobody chooses
    (`any`) stays so.

    Raises:
        OnnxCheckError: An expression gives no size there.
    """
    model = reference.model
    dims = {
        dim: next((size for size in values if size), values[0])
        for dim, values in model.dims.items()
    }

    def sized(shape: Shape | None) -> tuple[int | str, ...] | None:
        if shape is None:
            return None
        try:
            return tuple(ANY if size == ANY else size_at(size, dims) for size in shape)
        except SizeError as error:
            raise OnnxCheckError(f"{model.name}: {error}; or export it with --dynamic") from error

    shapes = {name: sized(shape) or () for name, shape in reference.shapes.items()}
    static = dataclasses.replace(
        model,
        dims={},
        spans={},
        latency=model.latency.model_copy(update={"dims": None}),
        inputs={
            name: entry.model_copy(update={"shape": shapes[name]})
            for name, entry in model.inputs.items()
        },
        outputs={
            name: entry.model_copy(update={"shape": sized(entry.shape)})
            for name, entry in model.outputs.items()
        },
    )
    return dataclasses.replace(reference, model=static, shapes=shapes)
