"""Registers a published bundle in MLflow: a version of a registered model, whole or not at all.

A version is created by one request, with its tags, source and run, once the run has all that
belongs to it. So whatever is cut off leaves a run without a version, which the next call takes up,
or a version without its alias, which the next call gives it. Of several versions of one bundle, as
calls at the same time make them, the first stays: it is the same for all who look.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.record.record import load
from pytest_onnxcheck.release.bundle import Bundle
from pytest_onnxcheck.release.choice import choose
from pytest_onnxcheck.release.contents import METADATA, RECORD
from pytest_onnxcheck.release.published import bundle_sha256, hashed_files
from pytest_onnxcheck.release.registration import metrics, tags, time_of
from pytest_onnxcheck.release.source import of_folder, of_source, refuse_other_bundle
from pytest_onnxcheck.release.tracking import code_of, registry, registry_uri
from pytest_onnxcheck.release.verify import verify

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["STAGES", "Registered", "check_registry", "refuse_names", "register"]

#: the stages that MLflow has
STAGES = ("None", "Staging", "Production", "Archived")

#: the tag of a version, and of its run, that says of which bundle they are
_BUNDLE = "bundle_sha256"
#: the tag of a run that says under which name its version is
_REGISTERED = "registered_model"
#: the tag of a registered model that says whose it is
_OWNER = "onnxcheck.release"

_ALIAS = re.compile(r"[A-Za-z0-9_-]{1,255}")
_RESERVED_ALIAS = re.compile(r"latest|v\d+", re.IGNORECASE)


@dataclass(frozen=True)
class Registered:
    """A version in the registry.

    Attributes:
        name: The registered model.
        version: Number of the version.
        source: Where the bundle is published.
        run_id: MLflow's run, with metrics and metadata.
        alias: The alias that it was given.
        stage: The stage that it was given.
        created: Whether this call made it; else it was there.
        told: What should be told.
    """

    name: str
    version: int
    source: str
    run_id: str
    alias: str | None = None
    stage: str | None = None
    created: bool = True
    told: tuple[str, ...] = ()

    @property
    def uri(self) -> str:
        """By what MLflow finds it."""
        return f"models:/{self.name}/{self.version}"

    @property
    def summary(self) -> str:
        """Which version, and what it is known by, on a line."""
        how = "registered" if self.created else "registered already"
        alias = "" if self.alias is None else f", alias {self.alias}"
        stage = "" if self.stage is None else f", stage {self.stage}"
        return f"{self.uri}  {how}{alias}{stage}: {self.source}"

    def to_json(self) -> dict[str, Any]:
        """What a machine reads of it."""
        return {**asdict(self), "uri": self.uri}


def register(
    folder: Path, source: str, name: str, *, alias: str | None = None, stage: str | None = None
) -> Registered:
    """Registers a bundle that is published; a bundle that is registered is found, and completed.

    The server and the credentials are those of MLflow's own settings (`MLFLOW_TRACKING_URI`, ...).

    Args:
        folder: The bundle.
        source: Where it is published, a URI that those who use the registry can read.
        name: The registered model; it is made where there is none.
        alias: An alias that is moved to the version.
        stage: A stage that the version is put into; MLflow has deprecated them.

    Raises:
        ReleaseError: It is not registered; the text has every reason.
        StorageError: The source cannot be read.
        OSError: A file cannot be read.
    """
    bundle = verify(folder)
    what = f"{folder} is not registered as {name!r}"
    source = source.rstrip("/")
    sha256 = bundle_sha256(hashed_files(folder, bundle.files))
    refuse_names(what, name, alias, stage, of_source(source))
    refuse_other_bundle(what, source, sha256)
    with registry(what) as client:
        _refuse_folder(what, source)
        registration = _Registration(client, bundle, sha256, source, name, what)
        version, created = registration.version()
        told = [
            *(() if alias is None else registration.give_alias(version, alias)),
            *(() if stage is None else registration.put_into(version, stage)),
        ]
    return Registered(
        name, int(version.version), source, version.run_id, alias, stage, created, tuple(told)
    )


def check_registry(name: str, to: str, alias: str | None = None) -> None:
    """Looks whether something that is published could be registered; writes nothing.

    Args:
        name: The registered model.
        to: Where it will be published.
        alias: An alias that will be moved to the version.

    Raises:
        ReleaseError: It could not; the text has every reason.
    """
    what = f"nothing can be registered as {name!r}"
    refuse_names(what, name, alias, None, of_source(to))
    with registry(what) as client:
        _refuse_folder(what, to)
        client.search_registered_models(max_results=1)


def refuse_names(
    what: str, name: str, alias: str | None, stage: str | None, more: Iterable[str] = ()
) -> None:
    """Refuses what no registry takes, without asking one.

    Args:
        what: What is not done then.
        name: The registered model.
        alias: The alias.
        stage: The stage.
        more: Other reasons, told beside these.

    Raises:
        ReleaseError: One of them is none; the text has every reason.
    """
    reasons = [*_of_name(name), *more, *_of_alias(alias), *_of_stage(stage)]
    if reasons:
        raise ReleaseError(what, reasons)


def _refuse_folder(what: str, source: str) -> None:
    reasons = [*of_folder(source, registry_uri())]
    if reasons:
        raise ReleaseError(what, reasons)


class _Registration:
    """One bundle under one name, step by step. Every step may be made again."""

    def __init__(
        self, client: MlflowClient, bundle: Bundle, sha256: str, source: str, name: str, what: str
    ) -> None:
        self.client = client
        self.folder = bundle.folder
        self.known = bundle.metadata
        self.bundle = sha256
        self.source = source
        self.name = name
        self.what = what

    @property
    def _tags(self) -> dict[str, str]:
        record = load(self.folder / RECORD)
        row = choose(record.checks, self.known.model, self.known.variant).row
        return {**tags(self.known, row.verdict()), _BUNDLE: self.bundle}

    def version(self) -> tuple[ModelVersion, bool]:
        """The version of the bundle, and whether it was made here."""
        from mlflow.exceptions import MlflowException

        self._claim()
        found, made = self._versions(), None
        if not found:
            try:
                made = self._make()
            except MlflowException:
                # somebody else was quicker and has cleared away, or only the answer was lost
                if not self._versions():
                    raise
            found = self._versions()
        if not found:
            why = "the version is gone again: somebody deletes versions meanwhile: try again"
            raise ReleaseError(self.what, [why])
        kept = found[0]
        self._clear_away(kept, found[1:])
        if kept.source != self.source:
            why = (
                f"it is version {kept.version} already, with the source {kept.source}, which "
                "cannot be changed: register it with that one, or delete that version first"
            )
            raise ReleaseError(self.what, [why])
        return kept, made is not None and made.version == kept.version

    def give_alias(self, version: ModelVersion, alias: str) -> Iterator[str]:
        """Moves an alias to the version; says whose it was."""
        held = self.client.get_registered_model(self.name).aliases.get(alias)
        if str(held) != str(version.version):
            self.client.set_registered_model_alias(self.name, alias, str(version.version))
            if held is not None:
                yield f"alias {alias} was version {held}'s"

    def put_into(self, version: ModelVersion, stage: str) -> Iterator[str]:
        """Puts the version into a stage; says that stages are deprecated."""
        if version.current_stage != stage:
            self.client.transition_model_version_stage(self.name, str(version.version), stage)
        yield f"stage {stage}: MLflow has deprecated stages, and will remove them: use an alias"

    def _claim(self) -> None:
        """Makes the registered model, or looks whether it is this one's."""
        from mlflow.exceptions import MlflowException

        owner = {_OWNER: self.known.name}
        try:
            self.client.create_registered_model(self.name, tags=owner)
            return
        except MlflowException as error:
            if code_of(error) != "RESOURCE_ALREADY_EXISTS":
                raise
        there = self.client.get_registered_model(self.name)
        holder = there.tags.get(_OWNER)
        if holder == self.known.name:
            return
        if holder is None and not self.client.search_model_versions(self._named, max_results=1):
            self.client.set_registered_model_tag(self.name, _OWNER, self.known.name)
            return
        whose = f"the model {holder!r}" if holder else "versions that onnxcheck did not register"
        why = (
            f"{self.name!r} has {whose}: choose another name, or set its tag {_OWNER} to "
            f"{self.known.name!r} if it is the same model"
        )
        raise ReleaseError(self.what, [why])

    @property
    def _named(self) -> str:
        return f"name = '{self.name}'"

    def _versions(self) -> list[ModelVersion]:
        """The versions of this bundle, the first one first."""
        where = f"{self._named} and tags.{_BUNDLE} = '{self.bundle}'"
        found = self.client.search_model_versions(where, max_results=100)
        return sorted(found, key=lambda version: int(version.version))

    def _make(self) -> ModelVersion:
        """Makes the version, after all that belongs to its run."""
        run = self._run().info.run_id
        self._fill(run)
        return self.client.create_model_version(
            self.name,
            self.source,
            run_id=run,
            tags=self._tags,
            description=f"{self.known.name} {self.known.version}: {self.known.variant}",
            await_creation_for=0,
        )

    def _fill(self, run: str) -> None:
        """Writes metrics and metadata to a run; written again, they are the same."""
        from mlflow.entities import Metric

        time = time_of(self.known)
        self.client.log_batch(
            run,
            metrics=[Metric(key, value, time, 0) for key, value in metrics(self.known).items()],
        )
        self.client.log_artifact(run, str(self.folder / METADATA))
        self.client.set_terminated(run)

    def _run(self) -> Run:
        """The run that an earlier call left, or a new one."""
        experiment = self._experiment()
        left = self._runs(experiment)
        if left:
            return left[0]
        return self.client.create_run(
            experiment,
            tags={**self._tags, _REGISTERED: self.name},
            run_name=f"{self.known.name}-{self.known.version}",
        )

    def _runs(self, experiment: str) -> list[Run]:
        where = f"tags.{_BUNDLE} = '{self.bundle}' and tags.{_REGISTERED} = '{self.name}'"
        found = self.client.search_runs([experiment], where, order_by=["attributes.start_time"])
        return list(found)

    def _experiment(self) -> str:
        """The experiment that MLflow's settings name, else one that is called as the model."""
        from mlflow.exceptions import MlflowException

        if "MLFLOW_EXPERIMENT_ID" in os.environ:
            return os.environ["MLFLOW_EXPERIMENT_ID"]
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", self.name)
        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return str(self.client.create_experiment(name))
            except MlflowException as error:
                if code_of(error) != "RESOURCE_ALREADY_EXISTS":
                    raise
                found = self.client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            why = (
                f"the experiment {name!r} is deleted: restore it (mlflow experiments restore), or "
                "name another one, MLFLOW_EXPERIMENT_NAME"
            )
            raise ReleaseError(self.what, [why])
        return str(found.experiment_id)

    def _clear_away(self, kept: ModelVersion, others: list[ModelVersion]) -> None:
        """Removes what calls at the same time made besides, and left where they were killed."""
        from mlflow.exceptions import MlflowException

        for version in others:
            try:
                self.client.delete_model_version(self.name, str(version.version))
            except MlflowException as error:
                if code_of(error) != "RESOURCE_DOES_NOT_EXIST":
                    raise
        experiment = self.client.get_run(kept.run_id).info.experiment_id
        for run in self._runs(experiment):
            if run.info.run_id != kept.run_id:
                self.client.delete_run(run.info.run_id)


def _of_name(name: str) -> Iterator[str]:
    if name in ("", ".", "..") or name != name.strip() or re.search(r"[/:'\"`\\\x00-\x1f]", name):
        yield f"{name!r} is no name of a registered model: write one without / : and quotes"


def _of_alias(alias: str | None) -> Iterator[str]:
    if alias is None:
        return
    if not _ALIAS.fullmatch(alias):
        yield f"alias {alias!r}: letters, digits, - and _ are allowed, 255 at most"
    elif _RESERVED_ALIAS.fullmatch(alias):
        yield f"alias {alias!r}: MLflow keeps latest, v1, v2, ... for itself: take another word"


def _of_stage(stage: str | None) -> Iterator[str]:
    if stage is not None and stage not in STAGES:
        yield f"stage {stage!r}: MLflow has {', '.join(STAGES)}; better use an alias"
