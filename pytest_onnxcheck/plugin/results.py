"""What the checks of one session found: kept as reports come in, shown and written at the end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_onnxcheck.errors import HistoryError
from pytest_onnxcheck.plugin.benchmarks import hide_tables
from pytest_onnxcheck.plugin.outputs import Outputs
from pytest_onnxcheck.plugin.releases import Releases
from pytest_onnxcheck.plugin.reports import SIGNS, terminal_width
from pytest_onnxcheck.plugin.schedule import keep_seconds
from pytest_onnxcheck.plugin.settings import SETTINGS
from pytest_onnxcheck.report.escaping import terminal

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from pytest_onnxcheck.history import History
    from pytest_onnxcheck.manifest import Manifest
    from pytest_onnxcheck.measurement import SpeedPoint
    from pytest_onnxcheck.plugin.journaling import Journaling
    from pytest_onnxcheck.record.entry import Entry
    from pytest_onnxcheck.record.record import Record

__all__ = ["Results"]


class Results:
    """A plugin of its own, so that its state lives and dies with the session."""

    def __init__(self, config: pytest.Config, journaling: Journaling) -> None:
        self.config = config
        self.journaling = journaling
        self.entries: list[Entry] = []
        self.errors: list[tuple[str, str]] = []
        self.manifests: dict[str, Manifest] = {}
        self._held: dict[str, Any] = {}  # reports, by node id, until their check is torn down
        self.told: list[tuple[str, dict[str, bool]]] = []
        self.unchecked: list[str] = []
        self.cache: dict[str, None] = {}  # what workers say of it, each text once
        self.outputs = Outputs(config)
        self.releases = Releases(config)

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Takes what a check found from its report, which pytest keeps to the end.

        It is let go of at the check's teardown: a worker has sent it by then, and the unfinished
        record holds it.
        """
        if report.when == "teardown" and report.nodeid in self._held:
            del self._held.pop(report.nodeid).onnxcheck
        written = getattr(report, "onnxcheck", None)
        if written is not None:
            self._held[report.nodeid] = report
            if hasattr(self.config, "workerinput"):
                return
            from pytest_onnxcheck.record.entry import Entry
            from pytest_onnxcheck.record.kept import Kept

            self.entries.append(Kept.of(Entry.from_json(written)))
            self.cache |= dict.fromkeys(getattr(report, "onnxcheck_cache", ()))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keeps what could not be collected: a wrong manifest or model."""
        if report.failed:
            self.errors.append((report.nodeid, str(report.longrepr)))

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Keeps the manifests, whatever of them is selected."""
        for item in session.items:
            for node in item.listchain():
                manifest = getattr(node, "manifest", None)  # only our files have it
                if manifest is not None:
                    self.manifests[str(node.path)] = manifest

    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        """Writes record and history in the process that saw every report."""
        if hasattr(self.config, "workerinput") or self.config.option.collectonly:
            return
        keep_seconds(self.config, self.entries)
        idle = exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not self.errors
        if idle and self.config.stash[SETTINGS].shard is not None:  # more shards than models
            exitstatus = session.exitstatus = pytest.ExitCode.OK
        elif not self._looked_at() and not exitstatus:
            exitstatus = session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self.entries and not self._write_history(exitstatus) and not exitstatus:
            exitstatus = session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if not (self.outputs.wanted or self.releases.wanted):
            return  # the ini's must outlive a run of other tests
        record = self._record(exitstatus)
        if record.finished and self.outputs.record_alone and not self.releases.wanted:
            self.outputs.write_record(record)
            return
        written = self.outputs.write(record)
        if self.releases.wanted and not self.releases.make(written, exitstatus) and not exitstatus:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _record(self, exitstatus: int) -> Record:
        from pytest_onnxcheck.judge.frontier import frontiers
        from pytest_onnxcheck.record.record import NotCollected, make
        from pytest_onnxcheck.record.rows import FrontierRow
        from pytest_onnxcheck.report.frontier import data

        finished = self.journaling.end(exitstatus)
        self.outputs.told += self.journaling.told()
        return make(
            self.entries,
            errors=[NotCollected(*error) for error in self.errors],
            exitstatus=int(exitstatus),
            frontier=[FrontierRow(**row) for row in data(frontiers(self.entries))],
            history=[text for text, _ in self.told],
            root=self.config.rootpath,
            finished=finished,
            selected=self.journaling.selected,
            shard=self.config.stash[SETTINGS].shard,
        )

    def _looked_at(self) -> bool:
        """Notes models of which nothing was checked; false makes the run fail."""
        from pytest_onnxcheck import judge
        from pytest_onnxcheck.manifest import load_manifest

        def excused(entry: Entry) -> set[str]:
            path = Path(entry.manifest)
            manifest = self.manifests.get(entry.manifest) or load_manifest(path)
            model = manifest.models.get(entry.model)
            return set() if model is None else {mark.reason for mark in model.skip}

        settings = self.config.stash[SETTINGS]
        found = judge.unchecked(self.entries, excused)
        self.unchecked = [f"{model}: {text}" for model, text in found.items()]
        if not settings.strict or (self.entries and not found):
            return True
        what = "a model of which every check was skipped" if self.entries else "no model checked"
        self.unchecked.append(f"--onnxcheck-strict: {what} is a failure")
        return False

    def _write_history(self, exitstatus: int) -> bool:
        """Stores the run, if it is to be stored and nothing failed; false makes the run fail."""
        from pytest_onnxcheck import judge
        from pytest_onnxcheck.history import History, entry_key, points_of, relative

        settings, root = self.config.stash[SETTINGS], self.config.rootpath
        history = History(settings.history)
        if not (history or settings.history_given or settings.accept):
            return True
        manifests = {relative(path, root): found for path, found in self.manifests.items()}
        checks = {
            name: _latency_checks(name, manifest, settings.targets)
            for name, manifest in manifests.items()
        }
        # of a manifest with mistakes it is not known what it has
        known = {name: found for name, found in checks.items() if not manifests[name].problems}
        limits = {key: limit for found in checks.values() for key, limit in found.items()}
        points = points_of(self.entries, root, limits)
        skipped = {
            entry_key(entry, root): entry.reason
            for entry in self.entries
            if entry.check == "latency" and entry.outcome == "skipped"
        }
        gone = judge.vanished(history.baseline, points, known, root, settings.targets)
        self._tell(*history.problems)
        if not settings.accept:
            self._tell(*gone.values(), *judge.unmatched(history.baseline, points, skipped))
            if gone and settings.strict:
                self._tell(
                    "--onnxcheck-strict: what vanished is a failure; --onnxcheck-accept takes it "
                    "out of the baseline"
                )
                return False
        if not (settings.history_given or settings.accept):
            return True
        if exitstatus:
            self._tell("nothing stored: the run failed")
            return not settings.accept
        if settings.history_given and points:
            try:
                self._tell(f"stored in {history.append(points)}", yellow=False)
            except HistoryError as error:
                self._tell(f"nothing stored: {error}")
        return not settings.accept or self._accept(history, points, gone)

    def _accept(
        self, history: History, points: dict[str, SpeedPoint], gone: dict[str, str]
    ) -> bool:
        if not points:
            self._tell("--onnxcheck-accept: no latency was measured, nothing is accepted")
            return False
        try:
            path = history.accept(points, gone)
        except HistoryError as error:
            self._tell(f"--onnxcheck-accept: nothing is accepted: {error}")
            return False
        noisy = [check for check, point in points.items() if point.noisy]
        self._tell(f"accepted {len(points)} as the baseline: {path}", yellow=False)
        self._tell(*(f"no longer in the baseline: {check}" for check in gone), yellow=False)
        self._tell(*(f"accepted, but measured on a busy machine: {check}" for check in noisy))
        return True

    def _tell(self, *texts: str, yellow: bool = True) -> None:
        self.told += [(text, {"yellow": yellow}) for text in texts]

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> Generator[None, Any, Any]:
        """Prints what was found of models and variants last.

        `--benchmark-compare-fail` raises in the summary of pytest-benchmark.
        """
        if self.config.stash[SETTINGS].wanted:
            hide_tables(self.config)
        try:
            return (yield)
        finally:
            self._print(terminalreporter)

    def _print(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Prints the summary, what the history says, and what was written."""
        if self.entries:
            self._print_summary(terminalreporter)
        elif (shard := self.config.stash[SETTINGS].shard) is not None:
            terminalreporter.write_line(f"shard {shard}: there is no model for it")
        elif self.config.stash[SETTINGS].enabled and not self.config.option.collectonly:
            terminalreporter.section("onnxcheck", red=True)
            terminalreporter.write_line("no model was checked", red=True)
            for text in self.unchecked:
                terminalreporter.write_line(text, red=True)
        for line, problem in (*self.outputs.told, *self.releases.told):
            if problem or self.config.get_verbosity() >= 0:
                terminalreporter.write_line(terminal(line), yellow=problem)
        for command in self.outputs.commands:
            terminalreporter.write_line(command)

    def _print_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        from pytest_onnxcheck.report.terminal import Shown, summary, told

        shown = Shown(
            width=terminal_width(self.config),
            verbosity=self.config.get_verbosity(),
            plain=not self.config.stash[SIGNS],
            whole_frontier=self.config.stash[SETTINGS].frontier,
        )
        terminalreporter.ensure_newline()
        if shown.verbosity >= 0:
            terminalreporter.section("onnxcheck")
        lines = [*summary(self.entries, shown)]
        for text in self.cache:
            lines += told(f"cache  {text}", shown.width, {"yellow": True})
        for text in self.unchecked:
            lines += told(f"nothing checked  {text}", shown.width, {"red": True})
        for text, markup in self.told:
            lines += told(f"history  {text}", shown.width, markup)
        for line, markup in lines:
            terminalreporter.write_line(terminal(line), **markup)


def _latency_checks(
    name: str, manifest: Manifest, targets: Sequence[str]
) -> dict[str, float | None]:
    """The latency checks a manifest has, with their `max_regression`.

    Args:
        name: The manifest's, as the history has it.
        manifest: The manifest.
        targets: Take these in place of the manifest's.
    """
    from pytest_onnxcheck.history import check_key
    from pytest_onnxcheck.manifest.model import latency_id

    return {
        check_key(name, model.name, variant.name, latency_id(target, point)): (
            variant.budget.max_regression
        )
        for model in manifest.models.values()
        for variant in model.variants
        for target in targets or model.targets
        for point in model.latency_points()
    }
