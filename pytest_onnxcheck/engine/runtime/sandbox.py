"""A child process that opens sessions first, because some of them crash or hang the process.

ONNX Runtime 1.23 to 1.31 segfaults while it optimises certain fp16 graphs. One long-lived worker
tries every artefact; when it dies, the artefact has failed its check and a new one is started.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_onnxcheck.engine.runtime import workers
from pytest_onnxcheck.processes import ANSWER_SECONDS, NoAnswerError
from pytest_onnxcheck.wording import one_line

__all__ = ["added_peak", "crash", "load_problem", "start"]

_child = workers.child()
atexit.register(_child.close)


def start() -> None:
    """Starts the child ahead of its first use: it imports its libraries while others work."""
    _child.start()


def load_problem(
    path: Path, opening: Mapping[str, object], *, timeout: float = ANSWER_SECONDS
) -> str | None:
    """Opens a session in the child.

    Args:
        path: The artefact.
        opening: See `libraries.opening_of`; any other argument of `worker.open_handle` too.
        timeout: Seconds it may take.

    Returns:
        None when it opened, be it on another provider; else what went wrong, a crash included.
    """
    try:
        workers.ask(_child, "load", path=str(path), opening=opening, timeout=timeout)
    except workers.Refused as error:
        if error.kind == "library":
            return str(error)
        return f"does not load in ONNX Runtime: {one_line(error)}"
    except NoAnswerError as error:
        return workers.failure(error)
    return None


def crash(path: Path, opening: Mapping[str, object], inputs: Path | None = None) -> str | None:
    """Opens a session in the child, and leaves it to the caller to meet an ordinary error.

    Args:
        path: The artefact.
        opening: As for `load_problem`.
        inputs: A file of inputs in the artefact's order (`worker.write_arrays`), to run it once.

    Returns:
        How it crashed or hung; None when it opened (and ran), or was refused with an error.
    """
    asked: dict[str, Any] = {"path": str(path), "opening": opening}
    try:
        if inputs is None:
            workers.ask(_child, "load", **asked)
        else:
            workers.ask(_child, "try_run", **asked, inputs=str(inputs))
    except workers.Refused:
        return None
    except NoAnswerError as error:
        return workers.failure(error, ran=inputs is not None)
    return None


def added_peak(path: Path, opening: Mapping[str, object], threads: int, inputs: Path) -> int | None:
    """Opens a session in the child and runs it once.

    Args:
        path: The artefact.
        opening: See `libraries.opening_of`.
        threads: Intra-op threads.
        inputs: A file of inputs in the artefact's order (`worker.write_arrays`).

    Returns:
        Bytes that were added to its peak memory; None when they cannot be told, and when the child
        crashes or hangs.
    """
    return workers.added_peak(_child, path, {**opening, "threads": threads}, inputs)
