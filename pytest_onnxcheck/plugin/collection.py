"""models.toml as pytest nodes: the only code that knows pytest's node API.

::

    ModelsFile (pytest.Module)  >  ModelNode (pytest.Collector)
        >  VariantNode (pytest.Class)  >  CheckItem (pytest.Function)

Why these bases: a Function needs a Module ancestor for module-scoped fixtures, and a Class of its
own per variant keeps class-scoped fixtures from being reordered across models.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_onnxcheck.engine.quiet import said_once
from pytest_onnxcheck.errors import (
    ExportError,
    ManifestError,
    QuantizeError,
    RecordError,
    StageError,
    TargetAbsent,
    Unsupported,
)
from pytest_onnxcheck.manifest import (
    Manifest,
    Model,
    Problem,
    Variant,
    carries_schema,
    load_manifest,
)
from pytest_onnxcheck.manifest.rules import unknown_target
from pytest_onnxcheck.manifest.targets import Engine, Target
from pytest_onnxcheck.places import ENVIRONMENTS
from pytest_onnxcheck.plugin.afar import at_home, send
from pytest_onnxcheck.plugin.reports import WIDTH, failure_shown, outcome, put_number_first
from pytest_onnxcheck.plugin.resume import RESUME, stage_text
from pytest_onnxcheck.plugin.settings import SETTINGS, Settings
from pytest_onnxcheck.progress import watched
from pytest_onnxcheck.record.entry import Entry, Planned
from pytest_onnxcheck.report.escaping import terminal
from pytest_onnxcheck.verdict import Grade, Verdict

if TYPE_CHECKING:
    from pytest_onnxcheck.manifest.sections import Mark
    from pytest_onnxcheck.plugin.suite import OnnxChecks

__all__ = ["REPORTED", "CheckItem", "ModelNode", "ModelsFile", "VariantNode", "collect_manifest"]

#: check -> the failure of a stage that is its own subject
_OWN_STAGE: dict[str, type[StageError]] = {
    "export": ExportError,
    "quantization": QuantizeError,
}

#: verdict and measurement of a check, for the record: filled by the `onnxcheck_report` fixture
REPORTED = pytest.StashKey[tuple[Verdict, Any]]()


def collect_manifest(path: Path, parent: pytest.Collector) -> ModelsFile | None:
    """Collects a TOML file if it is ours to collect.

    `models.toml` is a generic name: a file is taken when it was named (as an argument, or as
    `--onnxcheck-manifest`), or, with `--onnxcheck` on, when it carries our schema key.
    """
    settings = parent.config.stash[SETTINGS]
    named = parent.session.isinitpath(path)
    if settings.enabled:
        ours = named or path == settings.manifest
        ours = ours or (path.name == "models.toml" and carries_schema(path))
    else:
        ours = named and carries_schema(path)
    return ModelsFile.from_parent(parent, path=path) if ours else None


class ModelsFile(pytest.Module):
    """The manifest file."""

    def _getobj(self) -> types.ModuleType:
        return types.ModuleType("models_toml", "Stands for a manifest, which is no Python module.")

    @cached_property
    def engines(self) -> dict[str, Engine]:
        """What a hook gives to run artefacts in place of ONNX Runtime, by name."""
        engines: dict[str, Engine] = {}
        for given in self.ihook.pytest_onnxcheck_engines(config=self.config):
            engines |= given
        return engines

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest, parsed on first use."""
        try:
            shown = self.path.relative_to(self.config.rootpath)
        except ValueError:
            shown = self.path
        try:
            targets: dict[str, Mapping[str, object]] = {
                name: {"provider": name} for name in self.engines
            }
            for given in self.ihook.pytest_onnxcheck_targets(config=self.config):
                targets |= given
            return load_manifest(self.path, shown=str(shown), targets=targets)
        except ManifestError as error:
            raise self.CollectError(terminal(error)) from error

    def collect(self) -> Iterator[ModelNode]:
        """Yields one node per model, also for those that are wrong: they fail when expanded."""
        manifest, settings = self.manifest, self.config.stash[SETTINGS]
        general = [problem for problem in manifest.problems if problem.model is None]
        if general:
            raise self.CollectError(_told(manifest.problems))
        wrong: dict[str, list[Problem]] = {}
        for problem in manifest.problems:
            wrong.setdefault(str(problem.model), []).append(problem)
        names = list(dict.fromkeys([*manifest.models, *wrong]))
        chosen = [
            name
            for name in names
            if not settings.models
            or any(fnmatch.fnmatchcase(name, pattern) for pattern in settings.models)
        ]
        if not chosen:
            raise self.CollectError(
                f"{self.path.name}: no model matches --onnxcheck-model "
                f"{' '.join(settings.models)} (there are: {', '.join(names)})"
            )
        self._check_targets([manifest.models[name] for name in chosen if name in manifest.models])
        for name in self._of_shard(chosen):
            model = None if name in wrong else manifest.models[name]
            if model is not None and settings.targets:
                model = dataclasses.replace(model, targets=settings.targets, deploy_target=None)
            if model is not None:
                model = dataclasses.replace(
                    model, declared=_run(model.declared, settings, self.engines)
                )
            yield ModelNode.build(self, name, model, wrong.get(name, []))

    def _of_shard(self, names: list[str]) -> list[str]:
        """The models of `--onnxcheck-shard`; all of them without it."""
        settings = self.config.stash[SETTINGS]
        if settings.shard is None:
            return names
        from pytest_onnxcheck.plugin.shards import models_of

        try:
            own = models_of(settings.shard, names, self.manifest, settings.durations)
        except RecordError as error:
            raise self.CollectError(f"--onnxcheck-durations: {terminal(error)}") from error
        return [name for name in names if name in own]

    def _check_targets(self, models: list[Model]) -> None:
        """Refuses targets of the command line that nobody declares, or that nothing runs on."""
        settings = self.config.stash[SETTINGS]
        named = {"target": settings.targets, "require": settings.required_targets}
        for model in models[:1]:  # all of a manifest have the same
            for option, names in named.items():
                for name in [name for name in names if name not in model.declared]:
                    text = unknown_target(name, model.declared)
                    raise self.CollectError(f"--onnxcheck-{option}: {text}")
        used = settings.targets or {target for model in models for target in model.compared_on}
        for name in settings.required_targets if models else ():
            if name not in used:
                raise self.CollectError(
                    f"--onnxcheck-require={name}: no model chosen here runs on it (targets: "
                    f"{', '.join(sorted(used))}); add it to their targets, or --onnxcheck-target"
                )


def _run(
    targets: Mapping[str, Target], settings: Settings, engines: Mapping[str, Engine]
) -> dict[str, Target]:
    """The targets, with the folder of this run's environments, and the engines."""
    folder = str((settings.cache or settings.artifacts) / ENVIRONMENTS)
    return {
        name: dataclasses.replace(
            target,
            kept=folder,
            makes=settings.environments,
            engine=engines.get(target.provider),
        )
        for name, target in targets.items()
    }


class ModelNode(pytest.Collector):
    """One model. Expanding it is what costs, so one of a thousand can be selected cheaply."""

    model: Model | None
    problems: list[Problem]

    @classmethod
    def build(
        cls, parent: ModelsFile, name: str, model: Model | None, problems: list[Problem]
    ) -> ModelNode:
        """Makes the node of a valid model, or of a wrong one with its problems."""
        node: ModelNode = cls.from_parent(parent, name=name)
        node.model = model
        node.problems = problems
        for mark in model.marks if model else ():
            node.add_marker(mark)
        return node

    def collect(self) -> Iterator[VariantNode]:
        """Yields one node per variant."""
        if self.model is None:
            raise self.CollectError(_told(self.problems))
        suite = self.ihook.pytest_onnxcheck_suite(config=self.config, model=self.model)
        if suite is None:
            from pytest_onnxcheck.plugin.suite import OnnxChecks as suite  # noqa: N813
        for variant in self.model.variants:
            yield VariantNode.build(self, self.model, variant, suite)


class VariantNode(pytest.Class):
    """One variant: a class of checks, each variant a subclass of the suite's of its own."""

    model: Model
    variant: Variant
    suite: type[OnnxChecks]
    checks: int

    @classmethod
    def build(
        cls, parent: ModelNode, model: Model, variant: Variant, suite: type[OnnxChecks]
    ) -> VariantNode:
        """Makes the node of a variant."""
        node: VariantNode = cls.from_parent(parent, name=variant.name)
        node.model = model
        node.variant = variant
        node.suite = suite
        return node

    def position(self) -> tuple[int, int, int]:
        """Its place in the manifest; the models of one glob of checkpoints share a line."""
        file = self.getparent(ModelsFile)
        assert file is not None
        models = list(file.manifest.models)
        model = self.model
        return model.line, models.index(model.name), model.variants.index(self.variant)

    def planned(self) -> Planned:
        """What the manifest asks for, to tell a whole run from one of some checks."""
        budget = tuple(sorted(self.variant.budget.speed_targets()))
        return Planned(len(self.model.variants), self.checks, budget)

    def _getobj(self) -> type[OnnxChecks]:
        settings = self.config.stash[SETTINGS]
        return self.suite.of(
            self.model,
            self.variant,
            settings.mutants,
            settings.search_seconds,
            settings.recommend_seconds,
        )

    def funcnamefilter(self, name: str) -> bool:
        """Checks are called `test_...`, whatever the project's `python_functions` say."""
        return name.startswith("test_")

    def classnamefilter(self, name: str) -> bool:
        """A suite has no nested classes of tests."""
        return False

    def collect(self) -> Iterator[CheckItem]:
        """Yields the checks, made from the items pytest itself makes of the suite's methods."""
        self.checks = 0
        for item in super().collect():
            if isinstance(item, pytest.Function):
                # Re-classed rather than rebuilt: rebuilding a parametrized Function needs private
                # arguments that differ between pytest 8 and 9.2.
                item.__class__ = CheckItem
                assert isinstance(item, CheckItem)
                item.apply_marks()
                self.checks += 1
                yield item


class CheckItem(pytest.Function):
    """One check of one variant."""

    parent: VariantNode

    @property
    def model(self) -> Model:
        """The model it is a check of."""
        return self.parent.model

    @property
    def check(self) -> str:
        """The check's name without `test_` and parameters."""
        return self.originalname.removeprefix("test_")

    @property
    def target(self) -> str | None:
        """The target it runs on, if it runs on one; of no points pytest makes a placeholder."""
        callspec = getattr(self, "callspec", None)
        found = callspec.params.get("onnxcheck_target") if callspec else None
        return found if isinstance(found, str) else None

    @property
    def point(self) -> str:
        """The id of its parameters, e.g. `cpu-batch8`; empty without any."""
        return self.callspec.id if hasattr(self, "callspec") else ""

    def benchmark_labels(self) -> tuple[str, str, str]:
        """Group, name and full name of its pytest-benchmark entries."""
        variant = f"{self.parent.model.name}::{self.parent.variant.name}"
        return f"{variant} {self.point}".strip(), f"{variant}-{self.point}".strip("-"), self.nodeid

    def fail_elsewhere(self, error: StageError, seconds: Mapping[str, float]) -> None:
        """Fails it as what failed in another process, without running anything.

        Args:
            error: Why.
            seconds: Stage -> how long it took there.
        """
        self._stages.update(seconds)
        with self._outcomes():
            raise error

    def apply_marks(self) -> None:
        """Puts the manifest's xfail and skip on the item; one that is skipped is never set up."""
        self._stages: dict[str, float] = {}
        self._told: pytest.TestReport | None = None
        self.failed_stage: str | None = None
        self.transient = False
        for entry in self.parent.model.xfail:
            if self._selected(entry):
                self.add_marker(pytest.mark.xfail(reason=terminal(entry.reason), strict=True))
        for entry in self.parent.model.skip:
            if self._selected(entry):
                self.add_marker(pytest.mark.skip(reason=terminal(entry.reason)))

    def _selected(self, mark: Mark) -> bool:
        variant = self.parent.variant.name
        return (
            (mark.checks is None or self.check in mark.checks)
            and (mark.targets is None or self.target in mark.targets)
            and (
                mark.variants is None
                or any(fnmatch.fnmatchcase(variant, pattern) for pattern in mark.variants)
            )
        )

    def reportinfo(self) -> tuple[Path, int, str]:
        """Points at the model's table in the manifest."""
        name = f"{self.parent.model.name}::{self.parent.name}::{self.name}"
        return self.path, self.parent.model.line - 1, name

    def setup(self) -> None:
        """Sets up the fixtures; a stage that fails there is no pytest error but a failure.

        A check that is told again (`resume`) needs none.
        """
        self._setup_error: StageError | None = None
        self._stages.clear()
        self._told = self.config.stash[RESUME].report_of(self)
        if self._told is not None:
            return
        try:
            with said_once(), watched(self._stages, "setup"):
                super().setup()
        except StageError as error:
            self._setup_error = error

    def runtest(self) -> None:
        """Runs the check; a stage that fails is an outcome, not a crash."""
        if self._told is not None:
            return
        with said_once(), watched(self._stages, "check"), self._outcomes():
            if self._setup_error is not None:
                raise self._setup_error
            super().runtest()

    @contextmanager
    def _outcomes(self) -> Iterator[None]:
        """Turns errors of a stage into one failure; checks that depend on it skip and name it."""
        try:
            yield
        except (TargetAbsent, Unsupported) as error:
            self.transient = error.transient
            asked = self._requires_target()
            if asked is not None and isinstance(error, TargetAbsent):
                text = terminal(f"{error} {asked}")
                raise pytest.fail.Exception(text, pytrace=False) from None
            raise pytest.skip.Exception(terminal(error)) from None
        except StageError as error:
            self.transient = error.transient
            if error.reported_by is None:
                error.reported_by = self.config.stash[RESUME].owner(self, error)
            if error.reported_by not in (None, self.nodeid):
                text = f"needs what failed in {error.reported_by}"
                raise pytest.skip.Exception(text) from None
            # an expected failure answers only for its own stage: if it fails for another reason,
            # the next check that needs the same thing reports it
            expected = self.get_closest_marker("xfail") is not None
            if not expected or isinstance(error, _OWN_STAGE.get(self.check, ())):
                error.reported_by = self.nodeid
                self.failed_stage = stage_text(error)
            text = failure_shown(self.config, error)
            raise pytest.fail.Exception(text, pytrace=False) from None

    def _requires_target(self) -> str | None:
        """Who asks for the target to be there, as a sentence."""
        if self.target in self.parent.model.required_targets:
            return "The manifest requires this target (required_targets)."
        if self.target in self.config.stash[SETTINGS].required_targets:
            return f"--onnxcheck-require={self.target} requires this target."
        return None

    def report(self, verdict: Verdict, measurement: Any) -> None:
        """Keeps verdict and measurement for the record; fails the check on a failure.

        With `--onnxcheck-strict` that is also what the measurement could not tell.

        Raises:
            TypeError: The measurement is no dataclass.
        """
        from pytest_onnxcheck.report.text import failure_text, junit_properties

        if self.config.stash[SETTINGS].strict:
            verdict = verdict.strict()
        if not dataclasses.is_dataclass(measurement):
            raise TypeError(f"onnxcheck_report: the measurement is no dataclass: {measurement!r}")
        measurement = at_home(self.config, measurement)
        self.stash[REPORTED] = verdict, measurement
        self.user_properties += junit_properties(verdict, measurement)
        if verdict.grade is Grade.FAIL:
            model, variant = self.parent.model.name, self.parent.variant.name
            width = self.config.stash[WIDTH]
            text = failure_text(model, variant, verdict, measurement, width=width)
            pytest.fail(failure_shown(self.config, text), pytrace=False)

    def complete(self, report: pytest.TestReport) -> None:
        """Adds to a report what the check found, which reaches the record also through xdist."""
        if self._told is not None:
            if report.when == self._told.when:
                vars(report).clear()
                vars(report).update(vars(self._told))
            elif report.when == "teardown":  # JUnit's file takes them from here
                report.user_properties = self._told.user_properties
                report.sections = self._told.sections
            return
        if report.when == "teardown" and REPORTED in self.stash:
            del self.stash[REPORTED]  # pytest keeps items to the end
        if report.when == "teardown" or (report.when == "setup" and report.passed):
            return
        entry = self._entry(report)
        if report.failed:
            put_number_first(report, self.stash.get(REPORTED, (None, None))[0])
        report.onnxcheck = entry.to_json()  # type: ignore[attr-defined]
        send(self.config, report, entry.measurement)
        if self.config.stash[SETTINGS].json is not None:
            report.onnxcheck_basis = self.config.stash[RESUME].basis(self)  # type: ignore[attr-defined]
        builds = self.funcargs.get("onnxcheck_builds")
        report.onnxcheck_cache = list(getattr(builds, "told", ()))  # type: ignore[attr-defined]
        if report.skipped and not hasattr(report, "wasxfail"):
            # skipped for the manifest's reasons, not at some line of this module
            report.longrepr = (str(self.path), None, entry.reason)  # type: ignore[assignment]

    def _environment(self) -> dict[str, str]:
        """Versions where the target runs, if that is another environment."""
        target = None if self.target is None else self.model.declared.get(self.target)
        if target is not None and target.engine is not None:
            with suppress(ImportError):
                return dict(target.engine.versions())
        if target is None or not target.elsewhere:
            return {}
        from pytest_onnxcheck.engine.runtime.remote import packages_of

        return packages_of(target)

    def _entry(self, report: pytest.TestReport) -> Entry:
        from pytest_onnxcheck import judge

        variant = self.parent.variant
        verdict, measurement = self.stash.get(REPORTED, (None, None))
        reason = "" if verdict is None else verdict.reason
        if report.skipped and not hasattr(report, "wasxfail"):
            reason = str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else reason
        elif not report.passed and not reason:
            reason = str(report.longrepr).strip()
        return Entry(
            nodeid=report.nodeid,
            manifest=str(self.path),
            position=self.parent.position(),
            planned=self.parent.planned(),
            model=self.parent.model.name,
            variant=variant.name,
            precision=variant.precision,
            exporter=variant.exporter,
            opset=variant.opset,
            check=self.check,
            target=self.target,
            environment=self._environment(),
            point=self.point,
            outcome=outcome(report),
            expected_failure=getattr(report, "wasxfail", None),
            seconds=round(report.duration, 4),
            stages={stage: round(taken, 4) for stage, taken in self._stages.items()},
            limits=judge.limits(self.check, self.target, variant),
            grade=None if verdict is None else verdict.grade,
            findings=() if verdict is None else verdict.findings,
            reason=reason.removeprefix("Skipped: "),
            measurement=measurement,
        )


def _told(problems: Iterable[Problem]) -> str:
    return terminal("\n".join(problem.text for problem in problems))
