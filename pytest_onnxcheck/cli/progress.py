"""What is being done, on a line of its own, while a terminal is there to show it."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator

__all__ = ["columns", "showing"]


def columns() -> int:
    """Columns of the terminal, or of `COLUMNS`; 80 where there is none."""
    return shutil.get_terminal_size((80, 24)).columns


@contextlib.contextmanager
def showing() -> Iterator[Callable[[str], None]]:
    """Shows a text, which may be replaced, with a spinner and the elapsed time, on stderr.

    Nothing is shown, nor is rich imported, where stderr is no terminal.
    """
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    shown = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    # its own descriptor: what ONNX Runtime writes to the other one is caught, and this with it
    with os.fdopen(os.dup(sys.stderr.fileno()), "w") as stream:
        console = Console(file=stream)
        with Progress(*shown, console=console, transient=True) as progress:
            task = progress.add_task("", total=None)

            def tell(text: str) -> None:
                progress.reset(task, description=text[: max(console.width - 12, 10)])

            yield tell
