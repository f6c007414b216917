"""The line that tells what is being done and since when, while a check runs in a terminal."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck import progress
from pytest_onnxcheck.progress import Stage
from pytest_onnxcheck.report.escaping import terminal

if TYPE_CHECKING:
    import pytest

__all__ = ["Ticker", "start"]

#: seconds before a stage is shown, and between two times it is
_AFTER, _EVERY = 0.5, 1.0

#: of a terminal that does not say
_COLUMNS = 80

#: variables by which CI systems are known; what they show is a log
_LOGGED = ("CI", "BUILD_NUMBER")


def start(config: pytest.Config) -> Ticker | None:
    """Shows stages from now on, if there is a terminal, and it is free; None otherwise.

    It is not free with `-s` or live logs, which write while a check runs.
    """
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    file: Any = None if reporter is None else config.get_terminal_writer()._file
    live = config.getoption("log_cli", None) or config.getini("log_cli")
    if (
        config.get_verbosity() < 0
        or config.getoption("capture") == "no"
        or live
        or any(os.environ.get(name) for name in _LOGGED)
        or os.environ.get("TERM", "dumb") == "dumb"
        or sys.platform == "win32"
        or file is None
        or not file.isatty()
    ):
        return None
    # a descriptor of its own: pytest captures the other while a check runs
    ticker = Ticker(config.get_terminal_writer(), os.dup(file.fileno()))
    progress.listen(ticker)
    config.pluginmanager.register(ticker, "onnxcheck-ticker")
    return ticker


class Ticker:
    """A listener that writes on the line below the cursor, and clears it when a stage ends.

    pytest writes nothing while a check runs: where it left the cursor, it finds it again.
    """

    def __init__(self, writer: Any, terminal: int) -> None:
        self._writer, self._terminal = writer, terminal
        self._changed = threading.Condition()
        self._stage: Stage | None = None
        self._since = 0.0
        self._shown = self._closed = False
        self._thread: threading.Thread | None = None

    def __call__(self, stage: Stage | None) -> None:
        """Notes what is being done, and leaves nothing behind when that is nothing."""
        with self._changed:
            if stage != self._stage:
                self._stage, self._since = stage, time.monotonic()
            if stage is None:
                self._clear()
            elif self._thread is None:
                self._thread = threading.Thread(target=self._run, name="onnxcheck", daemon=True)
                self._thread.start()
            self._changed.notify()

    def pytest_enter_pdb(self) -> None:
        """Leaves the terminal to the debugger, for the rest of the run."""
        progress.listen(None)
        self(None)

    def close(self) -> None:
        """Stops it."""
        progress.listen(None)
        self(None)
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
        os.close(self._terminal)

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                if self._stage is None:
                    self._changed.wait()
                    continue
                elapsed = time.monotonic() - self._since
                if elapsed >= _AFTER:
                    self._show(self._stage, elapsed)
                self._changed.wait(_EVERY if elapsed >= _AFTER else _AFTER - elapsed)

    def _show(self, stage: Stage, elapsed: float) -> None:
        columns = self._columns()
        text = terminal(f"{stage.what}  {stage.doing}  {elapsed:.0f} s")
        self._write(text if len(text) < columns else f"{text[: columns - 2]}…", columns)
        self._shown = True

    def _clear(self) -> None:
        if self._shown:
            self._write("", self._columns())
        self._shown = False

    def _columns(self) -> int:
        """The terminal's; some say that they have none."""
        with suppress(OSError):
            return os.get_terminal_size(self._terminal).columns or _COLUMNS
        return _COLUMNS

    def _write(self, text: str, columns: int) -> None:
        """Puts a text on the line below, and the cursor back where it was."""
        column = self._writer.width_of_current_line % columns + 1
        # at the bottom a line feed scrolls, so that "up" and not a remembered place leads back
        codes = f"\n\r\x1b[2K{text}\x1b[1A\x1b[{column}G"
        with suppress(OSError):  # a terminal that is gone is no reason to fail
            os.write(self._terminal, codes.encode(errors="replace"))
