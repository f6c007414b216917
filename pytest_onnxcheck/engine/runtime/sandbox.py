"""A child process that opens sessions first, because some of them crash the process.

ONNX Runtime 1.23 to 1.31 segfaults while it optimises certain fp16 graphs. One long-lived child
tries every artefact; when it dies, the artefact has failed its check and a new child is started.

The protocol is one JSON list a line, `[path, opening]` with the arguments of
`opening.open_handle`, answered by one JSON value a line: null when the session opened, else the
error's text. With a number of threads and an `.npz` of inputs behind them the session is run once,
and the answer is what that added to the child's peak memory, in bytes, or null.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO, Any

from pytest_onnxcheck.engine.runtime import peak
from pytest_onnxcheck.engine.runtime.opening import open_handle
from pytest_onnxcheck.wording import one_line

__all__ = ["added_peak", "load_problem", "start"]


def start() -> None:
    """Starts the child ahead of its first use: it imports its libraries while others work."""
    _child.process()


def load_problem(path: Path, opening: dict[str, Any]) -> str | None:
    """Opens a session in the child.

    Args:
        path: The artefact.
        opening: See `Target.opening`.

    Returns:
        None when it opened, be it on another provider; else what went wrong, a crash included.
    """
    problem: str | None = _child.ask([str(path), opening])
    return problem


def added_peak(path: Path, opening: dict[str, Any], threads: int, inputs: Path) -> int | None:
    """Opens a session in the child and runs it once.

    Args:
        path: The artefact.
        opening: See `Target.opening`.
        threads: Intra-op threads.
        inputs: `.npz` with the inputs in the artefact's order.

    Returns:
        Bytes that were added to its peak memory; None when they cannot be told, and on a crash.
    """
    answer = _child.ask([str(path), opening, threads, str(inputs)])
    return answer if isinstance(answer, int) else None


class _Child:
    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[str] | None = None

    def ask(self, question: list[Any]) -> Any:
        """The child's answer, or the text of its crash."""
        process = self.process()
        assert process.stdin is not None
        assert process.stdout is not None
        answer = ""
        with contextlib.suppress(OSError):  # it died: there is no answer to read
            process.stdin.write(json.dumps(question) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if answer:
            return json.loads(answer)
        return self._crash(process)

    def process(self) -> subprocess.Popen[str]:
        """The running child."""
        if self._process is not None and self._process.poll() is not None:
            self.close()  # killed from outside, between two questions
        if self._process is None:
            self._stderr = tempfile.TemporaryFile(  # noqa: SIM115 - lives as long as the child
                "w+", encoding="utf-8", errors="replace"
            )
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
                encoding="utf-8",
            )
        return self._process

    def _crash(self, process: subprocess.Popen[str]) -> str:
        code = process.wait()
        assert self._stderr is not None
        self._stderr.seek(0)
        said = self._stderr.read().strip().splitlines()[-3:]
        self.close()
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return (
            f"ONNX Runtime crashed ({name}) while it opened a session on this artefact. "
            "The file may be valid and the runtime at fault; an earlier opset, another exporter or "
            "other session options may avoid it" + "".join(f"\n  {line}" for line in said)
        )

    def close(self) -> None:
        """Ends the child."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            process.kill()  # it holds nothing, and an orderly end takes it half a second
            process.wait()
            with contextlib.suppress(OSError):
                process.stdin.close()
            process.stdout.close()
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None


_child = _Child()
atexit.register(_child.close)


def _serve() -> None:
    """The child's side."""
    # what libraries print, while they are loaded or later, must not be taken for an answer
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    for line in sys.stdin:
        path, opening, *run = json.loads(line)
        answer = _added_peak(path, opening, *run) if run else _load_problem(path, opening)
        print(json.dumps(answer), flush=True, file=answers)


def _load_problem(path: str, opening: dict[str, Any]) -> str | None:
    try:
        open_handle(path, **opening)
    except Exception as error:
        return f"does not load in ONNX Runtime: {one_line(error)}"
    return None


def _added_peak(path: str, opening: dict[str, Any], threads: int, inputs: str) -> int | None:
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
    _serve()
