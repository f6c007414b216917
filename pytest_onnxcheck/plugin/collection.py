"""models.toml as pytest nodes: with `item` the only code that knows pytest's node API.

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
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_onnxcheck.errors import ManifestError, RecordError
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
from pytest_onnxcheck.plugin.item import CheckItem
from pytest_onnxcheck.plugin.settings import SETTINGS, Settings
from pytest_onnxcheck.record.entry import Planned
from pytest_onnxcheck.report.escaping import terminal

if TYPE_CHECKING:
    from pytest_onnxcheck.plugin.suite import OnnxChecks

__all__ = ["ModelNode", "ModelsFile", "VariantNode", "collect_manifest"]


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


def _told(problems: Iterable[Problem]) -> str:
    return terminal("\n".join(problem.text for problem in problems))
