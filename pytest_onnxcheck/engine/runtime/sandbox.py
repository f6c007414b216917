"""A child process that opens sessions first, because some of them crash or hang the process.

ONNX Runtime 1.23 to 1.31 segfaults while it optimises certain fp16 graphs. One long-lived child
tries every artefact; when it dies, the artefact has failed its check and a new child is started.

A question is `[path, opening]` with the arguments of `opening.open_handle`. Its answer is null
when the session opened, else the error's text. With a number of threads and an `.npz` of inputs
behind them the session is run once, and the answer is what that added to the child's peak memory,
in bytes, or null.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_onnxcheck.engine.runtime import peak
from pytest_onnxcheck.engine.runtime.opening import LibraryError, open_handle
from pytest_onnxcheck.processes import ANSWER_SECONDS, Child, CrashError, NoAnswerError, serve
from pytest_onnxcheck.wording import one_line

__all__ = ["added_peak", "crash", "load_problem", "start"]

_child = Child("-m", __name__)
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
        opening: See `libraries.opening_of`; any other argument of `opening.open_handle` too.
        timeout: Seconds it may take.

    Returns:
        None when it opened, be it on another provider; else what went wrong, a crash included.
    """
    try:
        problem: str | None = _child.ask([str(path), opening], timeout=timeout)
    except NoAnswerError as error:
        return _failure(error)
    return problem


def crash(path: Path, opening: Mapping[str, object], inputs: Path | None = None) -> str | None:
    """Opens a session in the child, and leaves it to the caller to meet an ordinary error.

    Args:
        path: The artefact.
        opening: As for `load_problem`.
        inputs: `.npz` with inputs in the artefact's order, to run it once.

    Returns:
        How it crashed or hung; None when it opened (and ran), or was refused with an error.
    """
    run = () if inputs is None else (None, str(inputs))
    try:
        _child.ask([str(path), opening, *run])
    except NoAnswerError as error:
        return _failure(error, ran=inputs is not None)
    return None


def added_peak(path: Path, opening: Mapping[str, object], threads: int, inputs: Path) -> int | None:
    """Opens a session in the child and runs it once.

    Args:
        path: The artefact.
        opening: See `libraries.opening_of`.
        threads: Intra-op threads.
        inputs: `.npz` with the inputs in the artefact's order.

    Returns:
        Bytes that were added to its peak memory; None when they cannot be told, and when the child
        crashes or hangs.
    """
    try:
        found: int | None = _child.ask([str(path), opening, threads, str(inputs)])
    except NoAnswerError:
        return None
    return found


def _failure(error: NoAnswerError, *, ran: bool = False) -> str:
    """What became of the child, and what to do."""
    if ran:
        return (
            f"ONNX Runtime {error} while it ran this artefact on an empty input: keep the size 0 "
            "away from it (out of `dims` and cases), or leave what it runs on empty inputs in float"
        )
    doing = f"ONNX Runtime {error} while it opened a session on this artefact"
    if isinstance(error, CrashError):
        text = (
            f"{doing}. The file may be valid and the runtime at fault; an earlier opset, another "
            "exporter or other session options may avoid it"
        )
    else:
        text = (
            f"{doing}, and was ended. The provider or its driver may hang: see whether "
            "the file opens outside of pytest, update the driver, or try other provider or session "
            "options. A provider that compiles for longer than that (TensorRT) has to find its "
            "work in a cache (trt_engine_cache_enable in the target's provider_options)"
        )
    return text + "".join(f"\n  {line}" for line in error.stderr_tail)


def _answer(question: list[Any]) -> Any:
    """The child's side."""
    path, opening, *run = question
    return _added_peak(path, opening, *run) if run else _load_problem(path, opening)


def _prepare() -> None:
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)


def _load_problem(path: str, opening: dict[str, Any]) -> str | None:
    try:
        open_handle(path, **opening)
    except LibraryError as error:
        return str(error)
    except Exception as error:
        return f"does not load in ONNX Runtime: {one_line(error)}"
    return None


def _added_peak(path: str, opening: dict[str, Any], threads: int | None, inputs: str) -> int | None:
    import numpy as np

    with np.load(inputs) as archive:
        arrays = list(archive.values())

    def run() -> Any:
        handle = open_handle(path, **opening, threads=threads)
        names = [value.name for value in handle.get_inputs()]
        return handle, handle.run(None, dict(zip(names, arrays, strict=True)))

    try:
        return peak.added_peak(run)
    except Exception:  # of ONNX Runtime, of several types; the check itself meets it too
        return None


if __name__ == "__main__":
    serve(_answer, _prepare)
