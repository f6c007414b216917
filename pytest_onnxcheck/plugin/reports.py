"""What pytest's report of a check says: how it came out, and its line in the short summary."""

from __future__ import annotations

import shutil

import pytest

from pytest_onnxcheck.verdict import Grade, Verdict

__all__ = ["WIDTH", "outcome", "put_number_first", "terminal_width"]

#: how many characters fit a line, as it was when the session began: while a check runs, its output
#: is captured, and the terminal cannot be asked
WIDTH = pytest.StashKey[int]()

#: how pytest begins the message of `pytest.fail`, and of a test that passes against its xfail
_FAILED, _STRICT_XPASS = "Failed: ", "[XPASS(strict)]"


def terminal_width(config: pytest.Config) -> int:
    """How many characters fit a line; a worker of pytest-xdist has no terminal, and 80."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return shutil.get_terminal_size().columns
    return int(config.get_terminal_writer().fullwidth)


def outcome(report: pytest.TestReport) -> str:
    """How a check came out; one that passes against its xfail is no failure like others."""
    if hasattr(report, "wasxfail"):
        return "xpassed" if report.passed else "xfailed"
    if report.failed and str(report.longrepr).startswith(_STRICT_XPASS):
        return "xpassed"
    return report.outcome


def put_number_first(report: pytest.TestReport, verdict: Verdict | None) -> None:
    """Puts the number that matters first in what the short summary and JUnit's file say.

    pytest cuts that line at the terminal's width, behind a node id that mostly fills it; on CI it
    repeats all of it. What it prints of the failure itself stays as it is.
    """
    from pytest_onnxcheck.report.escaping import terminal
    from pytest_onnxcheck.report.text import headline

    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is None or not crash.message.startswith(_FAILED):  # an error of another's code
        return
    if verdict is not None and verdict.grade is Grade.FAIL:
        crash.message = terminal(headline(verdict))
    else:
        crash.message = crash.message.removeprefix(_FAILED)
