"""What can be chosen: models and checkpoints by the manifest's globs, and how they are exported."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, get_args

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.manifest.terms import Exporter
from pytest_onnxcheck.report.escaping import visible
from pytest_onnxcheck.report.table import file_size
from pytest_onnxcheck.serve.catalogue import origin
from pytest_onnxcheck.serve.panel.job import minute

if TYPE_CHECKING:
    from pytest_onnxcheck.manifest import Manifest, Model
    from pytest_onnxcheck.serve.catalogue import Catalogue, CheckpointFile

__all__ = ["Choice", "Offer", "Weights", "key_of", "offered", "tables"]

#: the exporters, the default first
EXPORTERS: tuple[str, ...] = get_args(Exporter)


@dataclass(frozen=True)
class Weights:
    """A model of the manifest with one of its checkpoints.

    Attributes:
        key: What it is chosen by.
        label: What it is called: file, time, size.
        model: The model's name.
        checkpoint: The checkpoint's name; None where the model has none.
        file_name: What its fp32 artefact is saved as.
        uploaded: Whether the checkpoint is none of the manifest's.
        given: Whether the manifest gives the model's files, so that nothing is exported.
    """

    key: str
    label: str
    model: str
    checkpoint: str | None
    file_name: str
    uploaded: bool = False
    given: bool = False


@dataclass(frozen=True)
class Offer:
    """What can be chosen of one table of the manifest, and what is chosen unless somebody does.

    Attributes:
        weights: The checkpoints, the newest first; without any there is nothing to export.
        exporters: The exporters of its variants; empty where its files are given.
        opset: The opset of its first variant; None where its files are given.
        precisions: Those of its variants.
        trouble: What is wrong, and what to do; empty where nothing is.
        given: Whether the manifest gives its files, so that nothing is exported.
    """

    weights: tuple[Weights, ...] = ()
    exporters: tuple[str, ...] = ()
    opset: int | None = None
    precisions: tuple[str, ...] = ()
    trouble: str = ""
    given: bool = False

    def find(self, key: str | None) -> Weights | None:
        """The weights of a key; None where there are none of it, or not any more."""
        return next((each for each in self.weights if each.key == key), None)

    @property
    def newest(self) -> Weights | None:
        """The newest weights of the manifest's own, else of all; None where there are none."""
        own = [each for each in self.weights if not each.uploaded]
        return next(iter([*own, *self.weights]), None)


def tables(manifest: Manifest) -> list[str]:
    """The tables of a manifest, in its order, those that are wrong too."""
    return list(manifest.lines)


def offered(catalogue: Catalogue, table: str | None) -> Offer:
    """What can be chosen of a table.

    Args:
        catalogue: What is known.
        table: Its name; None where the manifest has none.
    """
    try:
        manifest = catalogue.manifest()
        models = [model for model in manifest.models.values() if model.section == table]
        weights = _weights({model.name: (model, catalogue.checkpoints(model)) for model in models})
    except OnnxCheckError as error:
        return Offer(trouble=f"{error}\nMend the manifest, and press Refresh.")
    if not models:
        return Offer(trouble=_wrong(manifest, table))
    missing = [model for model in models if model.checkpoint and not model.checkpoint.exists()]
    first = models[0].variants[0]
    return Offer(
        weights=weights,
        exporters=tuple(name for name in models[0].exporters if name in EXPORTERS),
        opset=first.opset,
        precisions=tuple(dict.fromkeys(variant.precision for variant in models[0].variants)),
        trouble="" if weights else _lost(missing[0]),
        given=bool(models[0].given),
    )


def _wrong(manifest: Manifest, table: str | None) -> str:
    """Why a table has no model."""
    said = [problem.text for problem in manifest.problems if problem.model == table]
    said = said or [problem.text for problem in manifest.problems]
    said = said or [f"{manifest.path.name} has no model {table!r}"]
    return "\n".join([*said, "Mend it, or train a checkpoint, and press Refresh."])


def _lost(model: Model) -> str:
    return (
        f"{model.root.name}: there is no file {model.checkpoint}, the checkpoint of {model.name}: "
        "train it, or correct `checkpoint` in the manifest, and press Refresh."
    )


def _weights(models: Mapping[str, tuple[Model, Sequence[CheckpointFile]]]) -> tuple[Weights, ...]:
    """The checkpoints of models, the newest first; of one that has none, the model itself."""
    files = [(model, file) for model, checkpoints in models.values() for file in checkpoints]
    files.sort(key=lambda found: found[1].modified, reverse=True)
    stems = Counter(PurePath(file.name).stem for _, file in files)
    found = [_file(model, file, stems) for model, file in files]
    found += [
        Weights(
            key=key_of(name, None),
            label=visible(f"none: {origin(model)}"),
            model=name,
            checkpoint=None,
            file_name=f"{name}.onnx",
            given=bool(model.given),
        )
        for name, (model, _) in models.items()
        if model.checkpoint is None
    ]
    return tuple(found)


def key_of(model: str, checkpoint: str | None) -> str:
    """The key of a model with a checkpoint; it says nothing, for Gradio tells odd ones as HTML."""
    said = f"{model}\0{checkpoint or ''}".encode(errors="surrogateescape")
    return hashlib.sha256(said).hexdigest()[:16]


def _file(model: Model, file: CheckpointFile, stems: Mapping[str, int]) -> Weights:
    stem = PurePath(file.name).stem
    sent = ", uploaded" if file.uploaded else ""
    return Weights(
        key=key_of(model.name, file.name),
        label=visible(
            f"{file.name} ({minute(file.modified)} UTC, {file_size(file.size_bytes)}{sent})"
        ),
        model=model.name,
        checkpoint=file.name,
        # a glob's `best.pt` in every folder: its model's name tells them apart
        file_name=f"{stem if stems[stem] == 1 else model.name}.onnx",
        uploaded=file.uploaded,
        given=bool(model.given),
    )


@dataclass(frozen=True)
class Choice:
    """What somebody has chosen.

    Attributes:
        weights: The model with its checkpoint.
        exporter: The exporter; None for the manifest's.
        opset: The opset, as it was typed; likewise.
        dynamic: Whether symbolic dims stay open in what is exported.
        precisions: The precisions.
    """

    weights: Weights
    exporter: str | None
    opset: float | None
    dynamic: bool
    precisions: tuple[str, ...]

    def ordered(self) -> tuple[str, ...]:
        """The precisions in their usual order, whichever was ticked first."""
        return tuple(name for name in PRECISIONS if name in self.precisions)
