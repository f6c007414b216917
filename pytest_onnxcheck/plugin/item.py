"""One check of one variant as pytest's item: what it runs, how it ends, what is recorded of it."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_onnxcheck.engine.quiet import said_once
from pytest_onnxcheck.errors import (
    ExportError,
    QuantizeError,
    StageError,
    TargetAbsent,
    Unsupported,
)
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.plugin.afar import at_home, send
from pytest_onnxcheck.plugin.reports import WIDTH, failure_shown, outcome, put_number_first
from pytest_onnxcheck.plugin.resume import RESUME, stage_text
from pytest_onnxcheck.plugin.settings import SETTINGS
from pytest_onnxcheck.progress import watched
from pytest_onnxcheck.record.entry import Entry
from pytest_onnxcheck.report.escaping import terminal
from pytest_onnxcheck.verdict import Grade, Verdict

if TYPE_CHECKING:
    from pytest_onnxcheck.manifest.sections import Mark
    from pytest_onnxcheck.plugin.collection import VariantNode

__all__ = ["CheckItem"]

#: check -> the failure of a stage that is its own subject
_OWN_STAGE: dict[str, type[StageError]] = {
    "export": ExportError,
    "quantization": QuantizeError,
}

#: verdict and measurement of a check, for the record: filled by the `onnxcheck_report` fixture
_REPORTED = pytest.StashKey[tuple[Verdict, Any]]()


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
        self.stash[_REPORTED] = verdict, measurement
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
        if report.when == "teardown" and _REPORTED in self.stash:
            del self.stash[_REPORTED]  # pytest keeps items to the end
        if report.when == "teardown" or (report.when == "setup" and report.passed):
            return
        entry = self._entry(report)
        if report.failed:
            put_number_first(report, self.stash.get(_REPORTED, (None, None))[0])
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
        verdict, measurement = self.stash.get(_REPORTED, (None, None))
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
