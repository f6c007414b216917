"""A pytest that collects what another has collected, and runs of it what that one asks for.

It imports what takes long, and forks for each model; see `supervisor`. Its requests come in on
stdin, after a first line that says how it is to be started.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO, Any

import pytest

from pytest_onnxcheck import errors, progress
from pytest_onnxcheck.plugin.benchmarks import entries_since
from pytest_onnxcheck.plugin.reports import SIGNS, WIDTH
from pytest_onnxcheck.plugin.resume import HANDED
from pytest_onnxcheck.progress import Stage
from pytest_onnxcheck.supervised.supervisor import Supervisor, attach

__all__ = ["NAME", "main"]

#: by which `hooks` knows that this process runs what another asks for
NAME = "onnxcheck-isolated"

#: what checks import, and what takes long among that
_IMPORTS = (
    *("torch", "torch.export", "torch._dynamo", "onnxscript", "onnxruntime.quantization"),
    *("pytest_onnxcheck.engine.builds", "pytest_onnxcheck.engine.checks.equivalence"),
)

#: options that are the parent's alone -> what they are here
_OPTIONS: dict[str, Any] = {
    # which items there are is known: all that it has may be asked for
    **dict.fromkeys(("keyword", "markexpr"), ""),
    **dict.fromkeys(("lf", "failedfirst", "newfirst", "stepwise", "stepwise_skip"), False),
    **{"deselect": None, "maxfail": 0},
    # what it writes and shows is the parent's; what it keeps too
    **dict.fromkeys(("xmlpath", "log_file", "pastebin", "benchmark_json", "benchmark_save"), None),
    **dict.fromkeys(("cacheclear", "setupshow", "setuponly", "setupplan"), False),
    **dict.fromkeys(("benchmark_autosave", "benchmark_compare"), False),
    **{"benchmark_compare_fail": []},
    # other processes are the parent's
    **dict.fromkeys(("numprocesses", "maxprocesses"), None),
    **{"onnxcheck_ahead": 0, "dist": "no", "tx": [], "looponfail": False},
}


def main() -> None:
    """Runs it until its input ends."""
    requests, answers = attach()
    start = json.loads(_line(requests))
    sys.path[:] = start["path"]
    status = pytest.main(start["args"], plugins=[_Server(start, requests, answers)])
    sys.exit(int(status) or 1)  # it never comes to the end of a session


def _line(descriptor: int) -> bytes:
    """The next line, and nothing of those behind it."""
    line = bytearray()
    while not line.endswith(b"\n") and (byte := os.read(descriptor, 1)):
        line += byte
    return bytes(line)


class _Server:
    """Takes the place of a session's loop over its items."""

    def __init__(self, start: Mapping[str, Any], requests: int, answers: IO[str]) -> None:
        self.__name__ = NAME  # under which pytest registers it
        self._start = start
        self._requests = requests
        self._answers = answers

    @pytest.hookimpl(tryfirst=True)
    def pytest_cmdline_main(self, config: pytest.Config) -> None:
        """Takes back the options that are the parent's alone."""
        for name, value in _OPTIONS.items():
            if hasattr(config.option, name):
                setattr(config.option, name, value)
        if config.option.basetemp:
            config.option.basetemp = os.path.join(config.option.basetemp, "isolated")  # noqa: PTH118
        config.stash[HANDED] = self._start["resume"]
        if self._start["workerinput"] is not None:
            config.workerinput = self._start["workerinput"]  # type: ignore[attr-defined]

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        """Has nothing printed."""
        config.pluginmanager.unregister(name="terminalreporter")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Runs what it is asked for, and ends this process."""
        config = session.config
        config.stash[WIDTH], config.stash[SIGNS] = self._start["width"], self._start["signs"]
        for name in _IMPORTS:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()  # collecting would copy what the forks share

        def work(requests: int, messages: int) -> None:
            os.close(self._requests)
            self._answers.close()
            _check(session, requests, messages)

        Supervisor(self._requests, self._answers, work, config.rootpath).serve()
        with suppress(Exception):
            config._ensure_unconfigure()
        os._exit(0)


def _check(session: pytest.Session, requests: int, messages: int) -> None:
    """What a fork does: runs checks until there are no more requests."""
    capture = session.config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()  # what is captured goes into files that forks would share
    capture.start_global_capturing()
    reporter = _Reporter(session.config, messages)
    session.config.pluginmanager.register(reporter)
    progress.listen(reporter.stage)
    items = {item.nodeid: item for item in session.items}
    with os.fdopen(requests, "rb") as lines:
        for line in lines:
            request = json.loads(line)
            reporter.refuse(request["refused"])
            item, following = (_named(request[key], items) for key in ("run", "next"))
            if item is None:
                raise LookupError(f"not collected in the process of its own: {request['run']}")
            before = reporter.benchmarks()
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            reporter.send({"benchmarks": entries_since(session.config, before)})
            reporter.send({"done": item.nodeid})
    session._setupstate.teardown_exact(None)
    atexit._run_exitfuncs()


def _named(nodeid: str | None, items: Mapping[str, pytest.Item]) -> pytest.Item | None:
    """The item of a node id, to which `--dist loadgroup` adds the name of a group."""
    if nodeid is None:
        return None
    return items.get(nodeid) or items.get(nodeid.rpartition("@")[0])


class _Reporter:
    """Sends what a check says, as it says it; in a fork of a fork nothing."""

    def __init__(self, config: pytest.Config, messages: int) -> None:
        self._config = config
        self._messages = messages
        self._pid = os.getpid()
        self._refused: dict[Stage, errors.StageError] = {}

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a message."""
        if os.getpid() != self._pid:  # the model has forked, and its child runs on
            os._exit(1)
        line = memoryview(json.dumps(message, default=repr).encode() + b"\n")
        while line:
            line = line[os.write(self._messages, line) :]

    def refuse(self, refused: Sequence[Mapping[str, Any]]) -> None:
        """Has stages fail at once that ended a process before, each with one error for all."""
        for each in refused:
            stage = Stage(*each["stage"])
            if stage not in self._refused:
                error: errors.StageError = getattr(errors, each["error"])(each["text"])
                error.reported_by, error.transient = each["by"], True
                self._refused[stage] = error

    def stage(self, stage: Stage | None) -> None:
        """Sends what is done now.

        Raises:
            StageError: It is known to end the process.
        """
        if stage in self._refused:
            raise self._refused[stage]
        self.send({"stage": None if stage is None else {"doing": stage.doing, "what": stage.what}})

    def benchmarks(self) -> int:
        """How many entries pytest-benchmark has."""
        session = getattr(self._config, "_benchmarksession", None)
        return 0 if session is None else len(session.benchmarks)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self) -> None:
        """Sends where in the check it is."""
        self.send({"phase": "setup"})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_call(self) -> None:
        """Sends where in the check it is."""
        self.send({"phase": "check"})

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self) -> None:
        """Sends where in the check it is."""
        self.send({"phase": "teardown"})

    def pytest_warning_recorded(
        self,
        warning_message: warnings.WarningMessage,
        when: str,
        nodeid: str,
        location: tuple[str, int, str] | None,
    ) -> None:
        """Sends a warning of a check; what was warned of before is the parent's too."""
        if when == "runtest":
            self.send(
                {
                    "warning": {
                        "message": str(warning_message.message),
                        "category": warning_message.category.__name__,
                        "filename": warning_message.filename,
                        "lineno": warning_message.lineno,
                        "nodeid": nodeid,
                        "location": location,
                    }
                }
            )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Sends a report."""
        written = self._config.hook.pytest_report_to_serializable(
            config=self._config, report=report
        )
        self.send({"report": written})


if __name__ == "__main__":
    main()
