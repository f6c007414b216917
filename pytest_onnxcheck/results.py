"""What the checks of one session found: kept as reports come in, shown and written at the end."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_onnxcheck.settings import SETTINGS

__all__ = ["Results"]


class Results:
    """A plugin of its own, so that its state lives and dies with the session."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.entries: list[dict[str, Any]] = []
        self.errors: list[dict[str, str]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps what a check found."""
        entry = getattr(report, "onnxcheck", None)
        if entry is not None:
            self.entries.append(entry)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keeps what could not be collected: a wrong manifest or model."""
        if report.failed:
            self.errors.append({"nodeid": report.nodeid, "error": str(report.longrepr)})

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Writes the record, also of a run that failed, in the process that saw every report."""
        path = self.config.stash[SETTINGS].json
        if path is None or hasattr(self.config, "workerinput"):
            return
        from pytest_onnxcheck.report.record import make_record, write_record

        record = make_record(self.entries, self.errors, int(exitstatus))
        self.config.hook.pytest_onnxcheck_update_record(config=self.config, record=record)
        write_record(record, path)

    @pytest.hookimpl(trylast=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Prints the table of models and variants, and where the record is."""
        if not self.entries:
            if self.config.stash[SETTINGS].enabled and not self.config.option.collectonly:
                terminalreporter.section("onnxcheck", red=True)
                terminalreporter.write_line("no model was checked", red=True)
            return
        from pytest_onnxcheck.report.terminal import summary

        settings = self.config.stash[SETTINGS]
        terminalreporter.section("onnxcheck")
        for line, markup in summary(self.entries, whole_frontier=settings.frontier):
            terminalreporter.write_line(line, **markup)
        if settings.json is not None:
            terminalreporter.write_line(f"record: {settings.json}")
