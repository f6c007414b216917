"""What can be chosen: models and checkpoints by the manifest's globs, and how they are exported."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, get_args

from pytest_onnxcheck.errors import OnnxCheckError
from pytest_onnxcheck.manifest.precisions import PRECISIONS
from pytest_onnxcheck.manifest.terms import Exporter
from pytest_onnxcheck.report.escaping import visible
from pytest_onnxcheck.report.table import file_size
from pytest_onnxcheck.serve.panel.job import minute

if TYPE_CHECKING:
    from pytest_onnxcheck.manifest import Manifest, Model
    from pytest_onnxcheck.serve.catalogue import Catalogue, CheckpointFile, Known

__all__ = ["Choice", "Offer", "Weights", "offered", "tables"]

#: the exporters, the default first
EXPORTERS: tuple[str, ...] = get_args(Exporter)


@dataclass(frozen=True)
class Weights:
    """A model of the manifest with one of its checkpoints.

    Attributes:
        key: What it is chosen by.
        label: What it is called: file, time, size.
        model: The model's name.
        checkpoint: What the checkpoint is asked for by; None for the manifest's own.
        file_name: What its fp32 artefact is saved as.
    """

    key: str
    label: str
    model: str
    checkpoint: str | None
    file_name: str


@dataclass(frozen=True)
class Offer:
    """What can be chosen of one table of the manifest, and what is chosen unless somebody does.

    Attributes:
        weights: The checkpoints, the newest first; without any there is nothing to export.
        exporters: The exporters of its variants; empty where its file is given.
        opset: The opset of its first variant.
        precisions: Those of its variants.
        trouble: What is wrong, and what to do; empty where nothing is.
    """

    weights: tuple[Weights, ...] = ()
    exporters: tuple[str, ...] = ()
    opset: int | None = None
    precisions: tuple[str, ...] = ()
    trouble: str = ""

    def find(self, key: str | None) -> Weights | None:
        """The weights of a key; None where there are none of it, or not any more."""
        return next((each for each in self.weights if each.key == key), None)

    @property
    def newest(self) -> Weights | None:
        """The newest weights; None where there are none."""
        return next(iter(self.weights), None)


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
        known = [catalogue.model(model.name) for model in models]
    except OnnxCheckError as error:
        return Offer(trouble=f"{error}\nMend the manifest, and press Refresh.")
    if not models:
        return Offer(trouble=_wrong(manifest, table))
    weights = _weights(models, known)
    missing = [model for model in models if model.checkpoint and not model.checkpoint.exists()]
    first = models[0].variants[0]
    return Offer(
        weights=tuple(weights),
        exporters=tuple(name for name in models[0].exporters if name in EXPORTERS),
        opset=first.opset,
        precisions=known[0].precisions,
        trouble="" if weights else _lost(missing[0]),
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


def _weights(models: list[Model], known: list[Known]) -> list[Weights]:
    """The checkpoints of models, the newest first; of one that has none, the model itself."""
    files = [(each, file) for each in known for file in each.checkpoints]
    files.sort(key=lambda found: found[1].modified, reverse=True)
    found = [_file(each, file) for each, file in files]
    return found + [
        Weights(
            _key(model.name, ""),
            "none: built from its seed",
            model.name,
            None,
            f"{model.name}.onnx",
        )
        for model in models
        if model.checkpoint is None
    ]


def _key(model: str, checkpoint: str) -> str:
    """A key that says nothing: Gradio tells one that it does not know as HTML."""
    return hashlib.sha256(f"{model}\0{checkpoint}".encode(errors="surrogateescape")).hexdigest()[
        :16
    ]


def _file(known: Known, file: CheckpointFile) -> Weights:
    sent = ", uploaded" if file.uploaded else ""
    return Weights(
        key=_key(known.name, file.name),
        label=visible(
            f"{file.name} ({minute(file.modified)} UTC, {file_size(file.size_bytes)}{sent})"
        ),
        model=known.name,
        checkpoint=file.name if file.uploaded else None,
        file_name=f"{PurePath(file.name).stem}.onnx",
    )


@dataclass(frozen=True)
class Choice:
    """What somebody has chosen.

    Attributes:
        weights: The model with its checkpoint.
        exporter: The exporter; None for the manifest's.
        opset: The opset; likewise.
        dynamic: Whether the batch stays open in what is exported.
        precisions: The precisions.
    """

    weights: Weights
    exporter: str | None
    opset: int | None
    dynamic: bool
    precisions: tuple[str, ...]

    def ordered(self) -> tuple[str, ...]:
        """The precisions in their usual order, whichever was ticked first."""
        return tuple(name for name in PRECISIONS if name in self.precisions)
