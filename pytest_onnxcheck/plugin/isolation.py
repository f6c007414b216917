"""Which models are checked in a process of their own; what becomes of its reports and its end."""

from __future__ import annotations

import math
import os
import sys
import uuid
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest

from pytest_onnxcheck import progress
from pytest_onnxcheck.descendants import end_marked
from pytest_onnxcheck.errors import (
    CheckpointError,
    ExportError,
    QuantizeError,
    RunError,
    StageError,
)
from pytest_onnxcheck.plugin.benchmarks import add_entries
from pytest_onnxcheck.plugin.limits import limits_of
from pytest_onnxcheck.plugin.reports import SIGNS, WIDTH
from pytest_onnxcheck.plugin.resume import RESUME
from pytest_onnxcheck.plugin.settings import SETTINGS
from pytest_onnxcheck.processes import Child, NoAnswerError
from pytest_onnxcheck.progress import Stage
from pytest_onnxcheck.supervised.limits import Death, Limits

if TYPE_CHECKING:
    from pytest_onnxcheck.plugin.item import CheckItem

__all__ = ["Isolation"]

#: how often the process of a model may end before the model is given up
_DEATHS = 3
#: by which what a killed server has left is found
_MARK = "ONNXCHECK_SERVER"
#: seconds that the server has to end when the session does
_END = 15.0

#: stage -> what its failure is; `RunError` for others
_ERRORS: dict[str, type[StageError]] = {
    "loading the checkpoint": CheckpointError,
    "exporting": ExportError,
    "quantizing": QuantizeError,
}


class Isolation:
    """A plugin of its own: has the checks of such models run elsewhere, and reports them here."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._settings = config.stash[SETTINGS]
        self._server: Child | None = None
        #: what `_MARK` is in the environment of all that comes from the server
        self._mark = str(uuid.uuid4())
        #: why the server does not start; it is not tried again
        self._broken = ""
        #: node of a model -> the stages that ended its process, and the check that each failed
        self._refused: dict[pytest.Collector, list[dict[str, Any]]] = {}
        #: node of a model -> the checks in which its process ended
        self._deaths: dict[pytest.Collector, list[str]] = {}

    def pytest_report_collectionfinish(self, items: list[pytest.Item]) -> str | None:
        """Says that a debugger keeps models in this process."""
        option = self._debugger
        if option is None or not any(self.limits_of(item) for item in items):
            return None
        return f"{option}: models are checked in this process, without limits"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool | None:
        """Runs a check of an isolated model in the model's process."""
        limits = self.limits_of(item)
        if limits is None or self._debugger is not None:
            return None
        node, following = _node(item), None if nextitem is None else _node(nextitem)
        if self._config.stash[RESUME].report_of(cast("CheckItem", item)) is not None:
            if node is not following:
                self._end(item)
            return None  # it is told again here
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        deaths = self._deaths.get(node, [])
        if self._broken:
            self._skip(item, f"needs what failed in {self._broken}")
        elif len(deaths) >= _DEATHS:
            ended = f"the model's process ended {len(deaths)} times, in {', '.join(deaths)}"
            self._skip(item, f"given up: {ended}")
        else:
            self._run(cast("CheckItem", item), nextitem if node is following else None, limits)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        if node is not following or item.session.shouldfail or item.session.shouldstop:
            self._end(item)
        # what checks of other models before it left set up in this process
        item.session._setupstate.teardown_exact(nextitem)
        return True

    def pytest_sessionfinish(self) -> None:
        """Ends the server, and with it all that came from it."""
        if self._server is not None:
            self._server.close()

    pytest_unconfigure = pytest_sessionfinish

    @property
    def _debugger(self) -> str | None:
        """The option that starts one, which needs pytest's own terminal."""
        options = {"--pdb": "usepdb", "--trace": "trace"}
        given = (name for name, key in options.items() if self._config.getoption(key, False))
        return next(given, None)

    def limits_of(self, item: pytest.Item) -> Limits | None:
        """What a check is held to in a process of its own; None for one in this process."""
        if not hasattr(item, "fail_elsewhere"):  # only our items have it; nothing is imported
            return None
        return limits_of(cast("CheckItem", item).model, self._settings)

    def _run(self, item: CheckItem, following: pytest.Item | None, limits: Limits) -> None:
        request = {
            "run": item.nodeid,
            "next": None if following is None else following.nodeid,
            "limits": asdict(limits),
            "refused": self._refused.get(_node(item), []),
        }
        heard = False
        try:
            server = self._started()
            server.send(request)
            while True:
                message = server.receive()
                heard = True
                if "stage" in message:
                    stage = message["stage"]
                    progress.relay(None if stage is None else Stage(**stage))
                elif "report" in message:
                    self._replay(item, message["report"])
                elif "warning" in message:
                    self._warn(**message["warning"])
                elif "benchmarks" in message:
                    add_entries(self._config, message["benchmarks"])
                elif "died" in message:
                    self._died(item, Death.from_json(message["died"]), limits)
                    break
                elif "done" in message:
                    break
        except NoAnswerError as error:
            self._lost()
            if not heard:
                self._broken = item.nodeid
            text = f"the process that starts those of isolated models {error}"
            self._fail(item, StageError("\n  ".join([text, *error.stderr_tail])), "setup", {})
        finally:
            progress.relay(None)

    def _started(self) -> Child:
        """The server; another one where it was ended from outside."""
        if self._server is not None and not self._server.alive:
            self._server.close()
            self._lost()
        if self._server is None:
            config = self._config
            self._server = Child(
                # -P: nothing of the project's takes the place of a module of the library
                *("-P", "-m", "pytest_onnxcheck.plugin.isolated"),
                folder=config.invocation_params.dir,
                silent=config.getoption("capture") != "no",
                patience=_END,  # in which it ends all that came from it
                environment={**os.environ, _MARK: self._mark},
            )
            self._server.send(
                {
                    "args": [str(argument) for argument in config.invocation_params.args],
                    "path": sys.path,
                    "width": config.stash[WIDTH],
                    "signs": config.stash[SIGNS],
                    "workerinput": getattr(config, "workerinput", None),
                    "resume": config.stash[RESUME].handed_on(),
                }
            )
        return self._server

    def _end(self, item: pytest.Item) -> None:
        """Ends the process of a model, so that nothing runs beside the next."""
        if self._server is None:
            return
        try:
            self._server.send({"end": True})
            while "ended" not in (message := self._server.receive()):
                pass
            if message["ended"]:
                path, line, _ = item.location
                text = f"the model left processes behind, which were ended: {message['ended']}"
                self._warn(text, "UserWarning", path, (line or 0) + 1, item.nodeid, None)
        except NoAnswerError:
            self._lost()

    def _lost(self) -> None:
        """Ends what a server has left that ended before it could do so."""
        self._server = None
        end_marked(f"{_MARK}={self._mark}")

    def _replay(self, item: pytest.Item, written: Mapping[str, Any]) -> None:
        report = self._config.hook.pytest_report_from_serializable(
            config=self._config, data=written
        )
        report.nodeid = item.nodeid
        item.ihook.pytest_runtest_logreport(report=report)

    def _warn(
        self,
        message: str,
        category: str,
        filename: str,
        lineno: int,
        nodeid: str,
        location: tuple[str, int, str] | None,
    ) -> None:
        """Has a warning of the model's process shown with those of this one."""
        # the class may be of a module that only that process has imported; its name is shown
        kind = type(category, (UserWarning,), {})
        self._config.hook.pytest_warning_recorded.call_historic(
            kwargs={
                "warning_message": warnings.WarningMessage(message, kind, filename, lineno),
                "when": "runtest",
                "nodeid": nodeid,
                "location": location,
            }
        )

    def _died(self, item: CheckItem, death: Death, limits: Limits) -> None:
        """Fails a check whose process ended, and keeps others from the stage that ended it."""
        text = _told(death, limits)
        error = _ERRORS.get(death.doing, RunError)(text)
        error.transient = True
        self._deaths.setdefault(_node(item), []).append(item.nodeid)
        self._fail(item, error, death.phase, death.seconds)
        if death.stage is not None:
            self._refused.setdefault(_node(item), []).append(
                {
                    "stage": [death.stage.doing, death.stage.what],
                    "error": type(error).__name__,
                    "text": text,
                    "by": error.reported_by,
                }
            )

    def _fail(
        self, item: CheckItem, error: StageError, phase: str, seconds: Mapping[str, float]
    ) -> None:
        if phase == "teardown":  # what the check found is known already
            self._report(item, lambda: pytest.fail(str(error), pytrace=False), "teardown")
            return
        skipping = self._config.pluginmanager.getplugin("skipping")  # has done so in the child
        if skipping is not None:
            item.stash[skipping.xfailed_key] = skipping.evaluate_xfail_marks(item)
        self._report(item, lambda: item.fail_elsewhere(error, seconds), "call")
        self._report(item, lambda: None, "teardown")

    def _skip(self, item: pytest.Item, reason: str) -> None:
        self._report(item, lambda: pytest.skip(reason), "call")
        self._report(item, lambda: None, "teardown")

    def _report(
        self, item: pytest.Item, outcome: Callable[[], object], when: Literal["call", "teardown"]
    ) -> None:
        """Reports what became of a check that has not come to its own reports."""
        call = pytest.CallInfo.from_call(outcome, when)
        report = item.ihook.pytest_runtest_makereport(item=item, call=call)
        item.ihook.pytest_runtest_logreport(report=report)


def _node(item: pytest.Item) -> pytest.Collector:
    """The node of the model that a check belongs to; of other items their parent."""
    parent = item.parent
    assert parent is not None
    grandparent = parent.parent
    return grandparent if isinstance(grandparent, pytest.Collector) else parent


def _told(death: Death, limits: Limits) -> str:
    """How a process ended, with what was measured and allowed, and what to do."""
    doing = death.doing if death.stage is None else f"{death.doing} {death.stage.what}"
    doing = {"setup": "its setup", "check": "the check", "teardown": "its teardown"}.get(
        doing, doing
    )
    where = f" at {death.where}" if death.where else ""
    taken = death.seconds.get(death.doing, 0.0)
    if death.how == "time":
        allowed = limits.of(death.doing)
        assert allowed < math.inf
        word = death.doing if " " not in death.doing else f'"{death.doing}"'
        return (
            f"{doing} did not end within the {allowed:g} s it may take, and was ended{where}. If "
            f"it is only slow, allow more: timeout = {{ {word} = {_more(allowed)} }} in the "
            "model's table"
        )
    if death.how == "memory":
        assert limits.memory is not None
        return (
            f"{doing} held {death.held / 1e6:.0f} MB after {taken:.1f} s, may hold "
            f"{limits.memory / 1e6:.0f} MB, and was ended{where}. If it needs that much, allow "
            f"more: memory_mb = {_more(death.held / 1e6)} in the model's table"
        )
    killed = " (by the kernel, if memory was short: see dmesg)" if death.how == "SIGKILL" else ""
    return (
        f"{doing} ended its process after {taken:.1f} s: {death.how}{killed}{where}. The fault is "
        "in native code or in a call that ends the process; run this check alone with "
        "--onnxcheck-isolate to see it again"
    )


def _more(allowed: float) -> str:
    """Twice as much, to two digits."""
    return f"{float(f'{2 * allowed:.2g}'):g}"
