"""What `progress` tells, on a line of its own, while a terminal is there to show it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pytest_onnxcheck import progress as stages
from pytest_onnxcheck.cli.printing import echo
from pytest_onnxcheck.report.escaping import visible

if TYPE_CHECKING:
    from rich.progress import Progress

__all__ = ["Display", "columns", "showing"]


def columns() -> int:
    """Columns of the terminal, or of `COLUMNS`; 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


class Display:
    """Shows what is being done, and prints lines, of which one may not run into the other."""

    def __init__(self, progress: Progress | None = None, width: int = 0) -> None:
        self._progress = progress
        self._width = width
        self._task = None if progress is None else progress.add_task("", total=None)
        self._head = ""

    def begin(self, head: str = "") -> None:
        """Shows a text before every stage from now on, e.g. `3/5 best.pt`."""
        self._head = head

    def __call__(self, stage: stages.Stage | None) -> None:
        """Shows a stage in place of the last one, and counts its seconds."""
        if self._progress is None or self._task is None or stage is None:
            return
        doing = " ".join(filter(None, [stage.doing, stage.what]))
        text = visible(": ".join(filter(None, [self._head, doing])))
        self._progress.reset(self._task, description=text[: max(self._width - 12, 10)])

    def echo(self, text: str) -> None:
        """Prints lines above what is shown."""
        if self._progress is not None:
            self._progress.stop()  # what is shown goes away with it
        echo(text)
        if self._progress is not None:
            self._progress.start()


@contextlib.contextmanager
def showing() -> Iterator[Display]:
    """Shows what is being done, with a spinner and the elapsed time, on stderr.

    Nothing is shown, nor is rich imported, where stderr is no terminal.
    """
    if not sys.stderr.isatty():
        yield Display()
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    shown = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    # its own descriptor: what ONNX Runtime writes to the other one is caught, and this with it
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as stream:
        console = Console(file=stream)
        with Progress(*shown, console=console, transient=True) as progress:
            display = Display(progress, console.width)
            stages.listen(display)
            try:
                yield display
            finally:
                stages.listen(None)
