"""The record is written while the run goes on, so that a kill loses no finished check."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_onnxcheck.plugin.resume import RESUME, serialised
from pytest_onnxcheck.plugin.settings import SETTINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pytest_onnxcheck.record.journal import Journal

__all__ = ["Journaling"]


class Journaling:
    """A plugin of the process that sees every report.

    Attributes:
        resumed: How many checks were told again, and not run.
        selected: How many checks are to be made; None while that is not known.
        problem: Why it could not go on writing; empty where it could.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._journal: Journal | None = None
        self._calls: dict[str, pytest.TestReport] = {}
        self._manifests: set[str] = set()
        self._made: set[str] = set()
        self.resumed = 0
        self.selected: int | None = None
        self.problem = ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        """Begins; nothing is run where something could not be collected."""
        settings, option = self._config.stash[SETTINGS], self._config.option
        broken = session.testsfailed and not option.continue_on_collection_errors
        if settings.json is None or not settings.wanted or option.collectonly or broken:
            return
        from pytest_onnxcheck.record.journal import Journal
        from pytest_onnxcheck.record.record import make

        if not hasattr(self._config, "workerinput"):
            self.selected = _checks([item.nodeid for item in session.items]) or None
        interrupted = int(pytest.ExitCode.INTERRUPTED)
        record = make(
            (),
            exitstatus=interrupted,
            root=self._config.rootpath,
            finished=False,
            selected=self.selected,
            shard=settings.shard,
        ).to_json()
        self._config.hook.pytest_onnxcheck_update_record(config=self._config, record=record)
        resuming = self._config.stash[RESUME].found
        self._journal = Journal(settings.json, record, resuming=resuming)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """What workers collected, who all collect the same."""
        if self.selected is None:
            self.selected = _checks(ids)
            self._add(selected=self.selected)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Writes a check when it has been torn down: then it is finished."""
        if hasattr(report, "onnxcheck"):
            self._calls[report.nodeid] = report
            self._made.add(report.nodeid)
            self.resumed += report.onnxcheck.get("resumed", False)
        if report.when == "teardown" and report.nodeid in self._calls:
            self._finish(self._calls.pop(report.nodeid), again=report.failed)

    def end(self, exitstatus: int) -> bool:
        """Whether the run made all its checks; else the unfinished record stays as it is.

        A worker of pytest-xdist that dies takes a check along, and `-x` leaves some out.
        """
        if self._journal is None:
            return True
        broken = (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        if exitstatus not in broken and len(self._made) >= (self.selected or 0):
            return True
        self._add(exitstatus=int(exitstatus))
        return False

    def told(self) -> Iterator[tuple[str, bool]]:
        """What is to be said of it at the end, a line each, with whether that is a problem."""
        settings = self._config.stash[SETTINGS]
        if self.problem:
            yield self.problem, True
        if self.resumed:
            yield (
                f"resumed: {self.resumed} of {self.selected} checks are those of the run before",
                False,
            )
        elif settings.resume and not self._config.stash[RESUME].found:
            yield f"--onnxcheck-resume: no unfinished record at {settings.json}: all is made", False

    def pytest_unconfigure(self) -> None:
        """Closes the file."""
        if self._journal is not None:
            self._journal.close()

    def _finish(self, report: pytest.TestReport, *, again: bool) -> None:
        """Writes a finished check; one whose teardown failed is to be made again."""
        from pytest_onnxcheck.record.record import manifest_file

        entry: dict[str, Any] = report.onnxcheck
        if entry["manifest"] not in self._manifests:
            self._manifests.add(entry["manifest"])
            self._add(manifests=[asdict(manifest_file(Path(entry["manifest"])))])
        basis = None if again else getattr(report, "onnxcheck_basis", None)
        written = None if basis is None else serialised(self._config, report)
        aside = {} if written is None else {"report": written, "basis": basis}
        self._add(checks=[entry], **aside)

    def _add(self, **values: object) -> None:
        if self._journal is None or self.problem:
            return
        try:
            self._journal.add(**values)
        except OSError as error:  # a full disk: what is known is still in memory
            self.problem = f"the unfinished record is not written any further: {error}"


def _checks(nodeids: Sequence[str]) -> int:
    return sum(".toml::" in nodeid for nodeid in nodeids)
