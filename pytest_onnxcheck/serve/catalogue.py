"""What is known of each model: its checkpoints, what was exported, the last verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.errors import OnnxCheckError, RecordError
from pytest_onnxcheck.manifest import Manifest, Model, load_manifest
from pytest_onnxcheck.manifest.terms import variant_name
from pytest_onnxcheck.measurement import HashedFile
from pytest_onnxcheck.places import relative
from pytest_onnxcheck.record.record import Record, load
from pytest_onnxcheck.record.rows import Row, rows
from pytest_onnxcheck.serve.jobs.job import RECORD
from pytest_onnxcheck.wording import meant, several

if TYPE_CHECKING:
    from pytest_onnxcheck.serve.jobs.job import Job
    from pytest_onnxcheck.serve.jobs.queue import Jobs
    from pytest_onnxcheck.serve.uploads import Uploads

__all__ = [
    "Artefact",
    "Catalogue",
    "CheckpointFile",
    "Known",
    "UnknownError",
    "VariantVerdict",
    "origin",
]

#: kinds of job whose record holds a verdict on a model: a benchmark looks at speed alone
_JUDGING = ("gate", "validate", "release")
#: how many jobs are looked through for what was exported and checked, and how many records kept
_MOST_JOBS, _MOST_RECORDS = 1000, 64


class UnknownError(OnnxCheckError):
    """There is no such model, checkpoint or artefact; the text lists what there is.

    Attributes:
        what: `model`, `checkpoint` or `artefact`.
    """

    def __init__(self, what: str, name: str, known: Iterable[str], otherwise: str) -> None:
        self.what = what
        names = list(known)
        there = f"there is {several(names, 8)}{meant(name, names)}" if names else otherwise
        super().__init__(f"no {what} {name!r}: {there}")


@dataclass(frozen=True)
class CheckpointFile:
    """A file, or folder, that a model's weights can come from.

    Attributes:
        name: What it is asked for by: its path from the manifest's folder, or an upload's name.
        path: Where it is.
        size_bytes: Its size; of a folder, of the files in it.
        modified: When it was written, in UTC, as ISO 8601.
        uploaded: Whether somebody sent it to this server.
    """

    name: str
    path: Path
    size_bytes: int
    modified: str
    uploaded: bool = False


@dataclass(frozen=True)
class Artefact:
    """An ONNX file that a job has exported, and that passed its checks.

    Attributes:
        variant: `EXPORTER-opN-PRECISION`.
        precision: See `terms.Precision`.
        checkpoint: The name of the checkpoint that it is of; None where the model has none.
        folder: Where its files are.
        files: The `.onnx`, then its external data.
        job: The job that exported it.
        created: When that ended, in UTC.
        size_ratio: Bytes as a share of the fp32 artefact's; None where that is not known.
        grade: `pass` or `warn`; None where it was not checked.
        dynamic: Whether its symbolic dims are open; else it takes one size of each.
        batch_size: Where it is not: the batch that was asked for; None for the manifest's first.
    """

    variant: str
    precision: str
    checkpoint: str | None
    folder: Path
    files: tuple[HashedFile, ...]
    job: str
    created: str
    size_ratio: float | None = None
    grade: str | None = None
    dynamic: bool = True
    batch_size: int | None = None

    @property
    def query(self) -> dict[str, str]:
        """What a download asks for beside its variant, so that it gets this artefact."""
        found = {"checkpoint": self.checkpoint or ""}
        if not self.dynamic:
            found["dynamic"] = "false"
        if self.batch_size is not None:
            found["batch_size"] = str(self.batch_size)
        return found

    @property
    def suffix(self) -> str:
        """What a file's name has behind it, where its sizes are fixed: `-batch3`, `-fixed`."""
        if self.dynamic:
            return ""
        return "-fixed" if self.batch_size is None else f"-batch{self.batch_size}"

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files."""
        return sum(file.size_bytes for file in self.files)

    @property
    def is_there(self) -> bool:
        """Whether all its files are still on this machine."""
        return all((self.folder / file.name).is_file() for file in self.files)


@dataclass(frozen=True)
class VariantVerdict:
    """What the last run found of a variant.

    Attributes:
        variant: Its name.
        verdict: As in the table: `pass`, `warn`, `FAIL`, `partial`, ...
    """

    variant: str
    verdict: str


@dataclass(frozen=True)
class Known:
    """All that is known of a model.

    Attributes:
        name: Its name.
        section: Its table in the manifest: models of one glob of checkpoints share it.
        root: The manifest's folder.
        checkpoints: Its checkpoints, the newest first.
        precisions: Those of the manifest.
        variants: The names of its variants there.
        given: The files that the manifest gives of it, by their paths from its folder; empty where
            it is exported.
        artefacts: The newest of each variant, checkpoint and sizes, the newest first, but those of
            fp32 before all others, and those with open sizes before fixed ones.
        verdict: The worst of `verdicts`; None where it was never checked.
        when: When that was, in UTC.
        verdicts: Of each variant.
        job: The job that found them.
    """

    name: str
    section: str
    root: Path
    checkpoints: tuple[CheckpointFile, ...]
    precisions: tuple[str, ...]
    variants: tuple[str, ...]
    given: tuple[str, ...] = ()
    artefacts: tuple[Artefact, ...] = ()
    verdict: str | None = None
    when: str | None = None
    verdicts: tuple[VariantVerdict, ...] = ()
    job: str | None = None

    @property
    def newest(self) -> tuple[Artefact, ...]:
        """The newest artefact of each variant, of whichever checkpoint."""
        found: dict[str, Artefact] = {}
        for artefact in self.artefacts:
            found.setdefault(artefact.variant, artefact)
        return tuple(found.values())

    def checkpoint_of(self, job: Job) -> str | None:
        """The name of the checkpoint that a job takes, or took; None where the model has none."""
        taken = job.options.checkpoint or (job.result or {}).get("checkpoint")
        if taken is None:
            return next((file.name for file in self.checkpoints if not file.uploaded), None)
        return self._names.get(taken, taken)

    @cached_property
    def _names(self) -> dict[str, str]:
        """The names of its checkpoints, by what the options of a job have for them."""
        return {relative(file.path, self.root): file.name for file in self.checkpoints}

    @property
    def has_onnx(self) -> bool:
        """Whether anything of it was exported."""
        return bool(self.artefacts)

    @property
    def onnx_size_bytes(self) -> int | None:
        """Bytes of the fp32 artefact, or of the first there is; None where there is none."""
        return self.artefacts[0].size_bytes if self.artefacts else None


class Catalogue:
    """The models of a manifest, and what jobs have left of them. Several threads may ask it."""

    def __init__(self, manifest: Path, jobs: Jobs, uploads: Uploads | None = None) -> None:
        """Reads nothing yet.

        Args:
            manifest: The manifest; it is read anew whenever it is asked for.
            jobs: The jobs.
            uploads: What was sent; None where nothing may be.
        """
        self.path = manifest.absolute()
        self.uploads = uploads
        self._jobs = jobs

    def manifest(self) -> Manifest:
        """The manifest as it is now, and the files that its globs match now.

        Raises:
            ManifestError: It cannot be used.
        """
        return load_manifest(self.path)

    def find(self, name: str) -> Model:
        """A model as the manifest has it; what jobs have left of it is not looked at.

        Raises:
            UnknownError: The manifest has no such model.
            ManifestError: It cannot be used.
        """
        manifest = self.manifest()
        if name in manifest.models:
            return manifest.models[name]
        wrong = [problem.text for problem in manifest.problems if problem.model == name]
        otherwise = f"{self.path.name} has none that is right"
        if wrong:
            raise UnknownError("model", name, (), "; ".join(wrong))
        raise UnknownError("model", name, manifest.models, otherwise)

    def model(self, name: str) -> Known:
        """What is known of a model.

        Raises:
            UnknownError: The manifest has no such model.
            ManifestError: It cannot be used.
        """
        return self._known(self.find(name), self._jobs.all(model=name, limit=_MOST_JOBS))

    def models(self) -> list[Known]:
        """What is known of each model, in the manifest's order.

        Raises:
            ManifestError: It cannot be used.
        """
        jobs: dict[str, list[Job]] = {}
        for job in self._jobs.all(limit=_MOST_JOBS):
            jobs.setdefault(job.model, []).append(job)
        return [self._known(it, jobs.get(it.name, [])) for it in self.manifest().models.values()]

    def checkpoint(self, model: str, name: str) -> str:
        """What a job's options have for a model's checkpoint: its path, as a manifest names it.

        Args:
            model: The model.
            name: The checkpoint's name.

        Raises:
            UnknownError: There is no such model, or it has no such checkpoint.
        """
        known = self.find(model)
        found = {file.name: file for file in self.checkpoints(known)}
        if name not in found:
            missing = ", which is not there" if known.checkpoint is not None else " and has none"
            otherwise = f"{model} is {origin(known)}{missing}"
            raise UnknownError("checkpoint", name, found, otherwise)
        return relative(found[name].path, self.path.parent)

    def artefact(
        self,
        model: str,
        variant: str,
        checkpoint: str | None = None,
        *,
        dynamic: bool | None = None,
        batch_size: int | None = None,
    ) -> Artefact:
        """The newest artefact of a variant, with open sizes where there is one.

        Args:
            model: The model.
            variant: Its name, or its precision.
            checkpoint: The name of the checkpoint that it is to be of; empty for the model without
                one; None for any.
            dynamic: Whether its sizes are to be open; None for either.
            batch_size: The only batch that it is to take; None for any.

        Raises:
            UnknownError: There is no such model, or nothing of the kind was exported.
        """
        found = tuple(
            each
            for each in self.model(model).artefacts
            if checkpoint in (None, each.checkpoint or "")
            and dynamic in (None, each.dynamic)
            and batch_size in (None, each.batch_size)
        )
        for artefact in found:
            if variant in (artefact.variant, artefact.precision):
                return artefact
        there = dict.fromkeys(artefact.variant for artefact in found)
        of = model
        if checkpoint is not None:
            of += f" with {checkpoint}" if checkpoint else " without a checkpoint"
        if batch_size is not None:
            of += f" for a batch of {batch_size} alone"
        elif dynamic is not None:
            of += f" with {'open' if dynamic else 'fixed'} sizes"
        otherwise = f"nothing of {of} was exported yet, or its files were removed: export it"
        raise UnknownError("artefact", variant, there, otherwise)

    def record(self, job: Job) -> Record | None:
        """The record that a job left; None where it left none that can be read."""
        path = self._jobs.folder(job) / RECORD
        try:
            return _record(path, path.stat().st_mtime_ns)
        except (OSError, RecordError):
            return None

    def checkpoints(self, model: Model) -> tuple[CheckpointFile, ...]:
        """The checkpoints of a model that are there, the newest first."""
        found = []
        if model.checkpoint is not None and model.checkpoint.exists():
            name = relative(model.checkpoint, model.root)
            found.append(_checkpoint_file(name, model.checkpoint))
        if self.uploads is not None:
            found += [
                CheckpointFile(it.name, self.uploads.path(it), it.size_bytes, it.received, True)
                for it in self.uploads.of(model.name)
            ]
        return tuple(sorted(found, key=lambda file: file.modified, reverse=True))

    def _known(self, model: Model, jobs: list[Job]) -> Known:
        """What is known of a model, from its jobs, the newest first."""
        variants = model.variants
        known = Known(
            model.name,
            model.section,
            model.root,
            self.checkpoints(model),
            tuple(dict.fromkeys(variant.precision for variant in variants)),
            tuple(variant.name for variant in variants),
            tuple(relative(each.file, model.root) for each in variants if each.file is not None),
        )
        artefacts = self._artefacts(known, jobs)
        return replace(known, artefacts=artefacts, **self._judged(model.name, jobs))

    def _artefacts(self, known: Known, jobs: Iterable[Job]) -> tuple[Artefact, ...]:
        newest: dict[tuple[str, ...], Artefact] = {}
        for job in jobs:
            if job.kind != "export" or not job.over or job.result is None:
                continue
            checkpoint = known.checkpoint_of(job)
            for file in job.result["files"]:
                variant = variant_name(file["exporter"], file["opset"], file["precision"])
                if file["path"] is not None:
                    made = _artefact(job, file, variant, checkpoint, self._jobs.folder(job))
                    newest.setdefault((variant, *map(str, made.query.items())), made)
        there = [artefact for artefact in newest.values() if artefact.is_there]
        return tuple(sorted(there, key=_rank))

    def _judged(self, model: str, jobs: Iterable[Job]) -> dict[str, Any]:
        """The fields of `Known` that the last record gives."""
        for job in jobs:
            record = self.record(job) if job.kind in _JUDGING and job.over else None
            found = [entry for entry in record.checks if entry.model == model] if record else []
            if record is None or not found:
                continue
            verdicts = [VariantVerdict(row.variant, row.verdict()) for row in rows(found)]
            worst = Row("", model, "", found).verdict()
            return {
                "verdict": worst,
                "when": record.created,
                "verdicts": tuple(verdicts),
                "job": job.id,
            }
        return {}


def origin(model: Model) -> str:
    """What a model is made of where nothing else is chosen: `built from its seed`."""
    path = model.checkpoint or model.pretrained
    return "built from its seed" if path is None else f"read from {relative(path, model.root)}"


def _checkpoint_file(name: str, path: Path) -> CheckpointFile:
    found = path.stat()
    files = path.rglob("*") if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files if file.is_file())
    modified = datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="seconds")
    return CheckpointFile(name, path, size, modified)


def _artefact(
    job: Job, file: Mapping[str, Any], variant: str, checkpoint: str | None, folder: Path
) -> Artefact:
    """One of the files that a job has exported."""
    checked = file["checked"]
    return Artefact(
        variant,
        file["precision"],
        checkpoint,
        folder,
        tuple(HashedFile(**each) for each in file["files"]),
        job.id,
        job.ended or job.created,
        file["size_ratio"],
        None if checked is None else checked["grade"],
        dynamic=job.options.dynamic,
        batch_size=None if job.options.dynamic else job.options.batch_size,
    )


def _rank(artefact: Artefact) -> tuple[bool, bool, bool]:
    """What stands before what: fp32, and what takes any size."""
    return artefact.precision != "fp32", not artefact.dynamic, artefact.batch_size is not None


@lru_cache(_MOST_RECORDS)
def _record(path: Path, written: int) -> Record:
    """A record as it was written at a time."""
    return load(path)
