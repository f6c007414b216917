"""A child process that opens sessions first, because some of them crash the process.

ONNX Runtime 1.23 to 1.31 segfaults while it optimises certain fp16 graphs. One long-lived child
tries every artefact; when it dies, the artefact has failed its check and a new child is started.

The protocol is one JSON list a line, `[path, provider]`, answered by one JSON value a line: null
when the session opened, else the error's text.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

__all__ = ["load_problem", "start"]


def start() -> None:
    """Starts the child ahead of its first use: it imports its libraries while others work."""
    _child.process()


def load_problem(path: Path, provider: str) -> str | None:
    """Opens a session in the child.

    Returns:
        None when it opened; else what went wrong, a crash included.
    """
    return _child.ask(path, provider)


class _Child:
    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[str] | None = None

    def ask(self, path: Path, provider: str) -> str | None:
        process = self.process()
        assert process.stdin is not None
        assert process.stdout is not None
        answer = ""
        with contextlib.suppress(OSError):  # it died: there is no answer to read
            process.stdin.write(json.dumps([str(path), provider]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if answer:
            problem: str | None = json.loads(answer)
            return problem
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
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    for line in sys.stdin:
        path, provider = json.loads(line)
        problem = None
        try:
            onnxruntime.InferenceSession(path, providers=[provider])
        except Exception as error:
            problem = f"does not load in ONNX Runtime: {' '.join(str(error).split())}"
        print(json.dumps(problem), flush=True)


if __name__ == "__main__":
    _serve()
