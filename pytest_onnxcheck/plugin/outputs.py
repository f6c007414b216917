"""What a run writes besides the terminal: record, HTML, code quality, GitHub's summary and log."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_onnxcheck.plugin.settings import SETTINGS, Settings

if TYPE_CHECKING:
    from pytest_onnxcheck.record.record import Record

__all__ = ["Outputs"]

#: bytes that GitHub takes of a step's summary, which others may have written to
_LONGEST_SUMMARY = 1024 * 1024 - 4096


class Outputs:
    """The files of one run, and what GitHub reads in its log.

    Args:
        config: pytest's.
        environ: The environment's variables; default: this process's.

    Attributes:
        commands: Lines for the log of GitHub Actions, to be printed as they are.
        told: What was written, and what could not be, a line each, with whether that is a problem.
    """

    def __init__(self, config: pytest.Config, environ: Mapping[str, str] | None = None) -> None:
        self._config = config
        self._environ = os.environ if environ is None else environ
        self._settings: Settings = config.stash[SETTINGS]
        self.commands: list[str] = []
        self.told: list[tuple[str, bool]] = []

    @property
    def wanted(self) -> bool:
        """Whether anything is to be written; never for a run that is not about models."""
        settings = self._settings
        paths = (settings.json, settings.html, settings.codequality)
        return settings.wanted and (any(paths) or self._summary is not None or self._annotates)

    @property
    def record_alone(self) -> bool:
        """Whether only the record is to be written, and no hook of the project changes it."""
        settings = self._settings
        others = any((settings.html, settings.codequality, self._summary, self._annotates))
        return not others and not self._config.hook.pytest_onnxcheck_update_record.get_hookimpls()

    def write_record(self, record: Record) -> None:
        """Writes a finished record check by check: that of hundreds of models would fill memory."""
        from pytest_onnxcheck.record.record import write as write_record

        if self._settings.json is not None and not self._stays(record):
            checks = (entry.to_json() for entry in record.checks)
            head = dataclasses.replace(record, checks=()).to_json()
            write_record({**head, "checks": checks}, self._settings.json)
            self.told.append((f"record: {self._settings.json}", False))

    def write(self, record: Record) -> dict[str, Any]:
        """Writes what is asked for, from the record as the project's hook leaves it; gives that."""
        from pytest_onnxcheck.errors import RecordError
        from pytest_onnxcheck.record.encoding import as_json
        from pytest_onnxcheck.record.record import from_json
        from pytest_onnxcheck.record.record import write as write_record

        settings = self._settings
        written = record.to_json()
        self._config.hook.pytest_onnxcheck_update_record(config=self._config, record=written)
        if settings.json is not None and not self._stays(record):
            write_record(written, settings.json)
            self.told.append((f"record: {settings.json}", False))
        try:
            record = from_json(json.loads(as_json(written)), "pytest_onnxcheck_update_record")
        except RecordError as error:
            self.told.append((f"no other report is written: {error}", True))
        else:
            self.told += self._reports(record)
        return written

    def _stays(self, record: Record) -> bool:
        """Whether the unfinished record stays where it is, to be gone on with; says so."""
        if not record.finished:
            told = f"unfinished record: {self._settings.json} (--onnxcheck-resume goes on with it)"
            self.told.append((told, True))
        return not record.finished

    def _reports(self, record: Record) -> Iterator[tuple[str, bool]]:
        from pytest_onnxcheck.files import write_atomically
        from pytest_onnxcheck.report.annotations import code_quality, github

        settings, root = self._settings, self._root()
        if settings.html is not None:
            from pytest_onnxcheck.history import History
            from pytest_onnxcheck.report.html import page

            write_atomically(settings.html, page([record], history=History(settings.history)))
            yield f"report: {settings.html}", False
        if settings.codequality is not None:
            write_atomically(settings.codequality, code_quality(record, root))
            yield f"code quality: {settings.codequality}", False
        if self._annotates:
            self.commands += github(record, root)
        if self._summary is not None:
            yield from self._summarise(record, self._summary)

    def _summarise(self, record: Record, path: Path) -> Iterator[tuple[str, bool]]:
        """Adds to the job's summary, behind what other steps wrote."""
        from pytest_onnxcheck.report.markdown import comment

        text = comment(record, longest=_LONGEST_SUMMARY // 4)
        try:
            with path.open("a", encoding="utf-8", errors="replace") as file:
                file.write(f"{text}\n")
        except OSError as error:
            yield f"GITHUB_STEP_SUMMARY: {error}", True

    @property
    def _summary(self) -> Path | None:
        path = self._environ.get("GITHUB_STEP_SUMMARY")
        return Path(path) if path and self._settings.github else None

    @property
    def _annotates(self) -> bool:
        return self._settings.github and self._environ.get("GITHUB_ACTIONS") == "true"

    def _root(self) -> Path:
        """The repository's folder, which review pages count from; else pytest's rootdir."""
        root = self._config.rootpath
        for variable in ("GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
            folder = self._environ.get(variable)
            if folder and root.is_relative_to(folder):
                return Path(folder)
        return next((one for one in (root, *root.parents) if (one / ".git").exists()), root)
