"""A run that was cut off is gone on with: what it finished is told again, not measured again.

What a check found rests on its model and variant as the manifest has them, on files, on settings,
versions and the machine. That is its basis, which is put on the check's report where it runs, and
compared where it would run again: a check is told again if nothing of it has changed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_onnxcheck import places
from pytest_onnxcheck.files import files_sha256, path_sha256
from pytest_onnxcheck.machine import fingerprint
from pytest_onnxcheck.plugin.settings import SETTINGS
from pytest_onnxcheck.versions import installed_versions

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.reference.reference import Reference
    from pytest_onnxcheck.errors import StageError
    from pytest_onnxcheck.plugin.item import CheckItem
    from pytest_onnxcheck.record.journal import Recorded

__all__ = ["HANDED", "RESUME", "Resume", "serialised", "stage_text"]

#: packages with a part in what is found, besides those that times depend on
_PACKAGES = ("onnx-ir", "onnxscript", "safetensors", "scikit-learn", "transformers")

#: what the worker of pytest-xdist is given under this name
_INPUT = "onnxcheck_resume"

#: the same in the process that runs isolated models
HANDED = pytest.StashKey[str | None]()

#: what a report keeps of itself; the rest is of the run that made it
_KEPT = (
    *("nodeid", "location", "keywords", "outcome", "longrepr", "when", "sections"),
    *("user_properties", "duration", "start", "stop", "wasxfail", "$report_type"),
)


class Resume:
    """What an earlier run finished, and what this one's checks rest on.

    Attributes:
        found: Whether there is an unfinished record to go on with.
    """

    def __init__(self, config: pytest.Config, found: dict[str, Recorded] | None) -> None:
        self.config = config
        self.found = found is not None
        self._recorded = found or {}
        self._files: dict[str, dict[str, str | None]] = {}
        self._digests: dict[Path, str | None] = {}
        self._run: str | None = None

    @classmethod
    def of(cls, config: pytest.Config) -> Resume:
        """What `--onnxcheck-resume` asks for, or the process that this one works for hands on.

        Raises:
            UsageError: There is no record to go on with by name, or it is damaged.
        """
        settings = config.stash[SETTINGS]
        helper = hasattr(config, "workerinput") or HANDED in config.stash
        given = config.stash.get(HANDED, getattr(config, "workerinput", {}).get(_INPUT))
        if not settings.wanted or (given is None and (helper or not settings.resume)):
            return cls(config, None)
        from pytest_onnxcheck.errors import RecordError
        from pytest_onnxcheck.record.journal import Recorded, recorded

        if given is not None:
            found = {nodeid: Recorded(**each) for nodeid, each in json.loads(given).items()}
            return cls(config, found)
        if settings.json is None:
            raise pytest.UsageError(
                "--onnxcheck-resume goes on with an unfinished record: name it, "
                "--onnxcheck-json=PATH"
            )
        try:
            return cls(config, recorded(settings.json))
        except RecordError as error:
            raise pytest.UsageError(f"--onnxcheck-resume: {error}") from error

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Hands on to a worker of pytest-xdist, which may be on another machine."""
        node.workerinput[_INPUT] = self.handed_on()

    def handed_on(self) -> str | None:
        """What a process that works for this one is given; None where nothing is gone on with."""
        found = {nodeid: asdict(each) for nodeid, each in self._recorded.items()}
        return json.dumps(found) if self.found else None

    def report_of(self, item: CheckItem) -> pytest.TestReport | None:
        """What is told again of a check; None for one that is to be run."""
        found = self._recorded.get(item.nodeid)
        whole = found is not None and {"key", "files", "stage"} <= found.basis.keys()
        if found is None or not whole or not self._same(item, found.basis):
            return None
        from pytest_onnxcheck.record.entry import Entry

        try:
            Entry.from_json(found.entry)
            report: pytest.TestReport = self.config.hook.pytest_report_from_serializable(
                config=self.config, data=found.report
            )
        except Exception:  # somebody changed the file: the check is made anew
            return None
        phases = {"call": ("passed", "failed", "skipped"), "setup": ("failed", "skipped")}
        if report.nodeid != item.nodeid or report.outcome not in phases.get(str(report.when), ()):
            return None
        report.user_properties = [(name, value) for name, value in report.user_properties]
        report.onnxcheck = {**found.entry, "resumed": True}  # type: ignore[attr-defined]
        report.onnxcheck_basis = found.basis  # type: ignore[attr-defined]
        return report

    def basis(self, item: CheckItem) -> dict[str, Any] | None:
        """What a check rests on, as JSON has it; None where that is not known.

        Of a model that could not be loaded it is not known which files it is made of; a target that
        was not there may be back, and a process that ended may come through.
        """
        from pytest_onnxcheck.errors import StageError

        reference = cast("Reference | None", item.funcargs.get("onnxcheck_reference"))
        variant = item.parent.variant
        key = item.parent.nodeid
        if item.transient:
            return None
        if key not in self._files:
            if reference is None:
                return None
            from pytest_onnxcheck.engine.convert.made_from import rests_on

            root = reference.model.root
            try:
                paths = {os.path.relpath(path, root) for path in rests_on(reference, variant)}
            except (StageError, OSError):
                return None
            self._files[key] = {path: self._digest(root / path) for path in sorted(paths)}
        return {"key": self._key(item), "files": self._files[key], "stage": item.failed_stage}

    def owner(self, item: CheckItem, error: StageError) -> str | None:
        """The check that is told again with this failure, if one is."""
        stage = stage_text(error)
        for nodeid, found in self._recorded.items():
            same_model = found.entry["model"] == item.parent.model.name
            if same_model and found.basis.get("stage") == stage and nodeid != item.nodeid:
                return nodeid if found.basis["files"] == self._now(item, found.basis) else None
        return None

    def _same(self, item: CheckItem, basis: Mapping[str, Any]) -> bool:
        if basis["key"] != self._key(item):
            return False
        return bool(basis["files"] == self._now(item, basis))

    def _now(self, item: CheckItem, basis: Mapping[str, Any]) -> dict[str, str | None]:
        root = item.parent.model.root
        return {path: self._digest(root / path) for path in basis["files"]}

    def _digest(self, path: Path) -> str | None:
        if path not in self._digests:
            self._digests[path] = path_sha256(path)
        return self._digests[path]

    def _key(self, item: CheckItem) -> str:
        """Hash of the model and variant as the manifest has them, and of what all checks share."""
        model, variant = item.parent.model, item.parent.variant
        # the order of a set is another in each process; what it says is told by others
        said = repr((dataclasses.replace(model, inherited_translations=frozenset()), variant))
        parts = [item.nodeid, said.replace(str(model.root), "."), self._shared()]
        parts += model.depended()  # one may be new; what is in them is among the files
        if "onnxcheck_benchmarks" in item.fixturenames:
            parts += _timing(self.config)
        parts += [path_sha256(path) or "" for path in _behind(item.parent.suite)]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()

    def _shared(self) -> str:
        """Settings, versions, machine, and the project's own conftest files."""
        if self._run is None:
            manager, settings = self.config.pluginmanager, self.config.stash[SETTINGS]
            asked = (settings.mutants, settings.search_seconds, settings.recommend_seconds)
            installed = sorted(
                f"{found.project_name} {found.version}"
                for _, found in manager.list_plugin_distinfo()
            )
            files = [getattr(plugin, "__file__", None) for plugin in manager.get_plugins()]
            own = sorted(Path(file) for file in files if file and file.endswith("conftest.py"))
            ours = sorted(places.PACKAGE.rglob("*.py"))
            installed += [str(installed_versions(_PACKAGES))]
            held_to = (settings.strict, settings.required_targets)
            limits = (settings.timeout, settings.memory_mb)
            parts = (asked, held_to, limits, installed, fingerprint())
            self._run = f"{parts} {files_sha256(own)} {files_sha256(ours)}"
        return self._run


RESUME = pytest.StashKey[Resume]()


def stage_text(error: StageError) -> str:
    """A failed stage, as it is compared with that of another run."""
    return f"{type(error).__name__}: {error}"


def serialised(config: pytest.Config, report: pytest.TestReport) -> dict[str, Any]:
    """A report as JSON has it, without what is of this run alone."""
    written: dict[str, Any] = config.hook.pytest_report_to_serializable(
        config=config, report=report
    )
    return {key: value for key, value in written.items() if key in _KEPT}


def _timing(config: pytest.Config) -> Iterator[str]:
    """What decides whether and against what is timed: workers, options, and earlier latencies."""
    yield str(hasattr(config, "workerinput"))
    yield str([config.getoption(name) for name in ("benchmark_disable", "benchmark_skip")])
    settings = config.stash[SETTINGS]
    yield f"{settings.accept} {path_sha256(settings.history)}"


def _behind(suite: type) -> Iterator[Path]:
    """The files of a project's own checks."""
    for base in suite.__mro__:
        file = getattr(sys.modules.get(base.__module__), "__file__", None)
        if file and base.__module__ != "builtins" and not places.is_ours(file):
            yield Path(file)
