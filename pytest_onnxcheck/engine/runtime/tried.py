"""Whether a file loads and runs in the ONNX Runtime of an interpreter."""

from __future__ import annotations

import atexit
import functools
from pathlib import Path

from pytest_onnxcheck.engine.runtime import workers
from pytest_onnxcheck.engine.runtime.libraries import cpu_opening
from pytest_onnxcheck.processes import Child, NoAnswerError
from pytest_onnxcheck.wording import one_line

__all__ = ["problem"]


def problem(path: Path, inputs: Path | None, *, python: str | None = None) -> str | None:
    """Loads a file on the CPU in a process of its own, and runs it once.

    Args:
        path: The `.onnx`.
        inputs: A file of inputs in its order (`worker.write_arrays`); None to load it alone.
        python: The interpreter; default: this one.

    Returns:
        None when it ran, else what went wrong, a crash included.
    """
    child = _child(python)
    file, opening = str(path.absolute()), cpu_opening(())
    try:
        if inputs is None:
            workers.ask(child, "load", path=file, opening=opening)
        else:
            workers.ask(child, "try_run", path=file, opening=opening, inputs=str(inputs))
    except workers.Refused as error:
        return one_line(error)
    except NoAnswerError as error:
        return workers.failure(error)
    return None


@functools.cache
def _child(python: str | None) -> Child:
    """The worker of an interpreter, which lives as long as this process; a dead one starts anew."""
    child = workers.child(python)
    atexit.register(child.close)
    return child
