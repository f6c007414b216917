"""Child processes that answer questions, and that may crash or hang in the place of this one.

A question and its answer are one JSON value on one line each.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import IO, Any

__all__ = ["ANSWER_SECONDS", "Child", "CrashError", "HangError", "NoAnswerError", "serve"]

#: how long an answer may take: opening a session on a GPU can take minutes
ANSWER_SECONDS = 300.0
#: how long a killed child may take to end: one that waits for a driver cannot be killed
_END_SECONDS = 5.0
#: lines of what a child wrote to stderr that are repeated
_TAIL_LINES = 3


class NoAnswerError(Exception):
    """A child gave no answer, and is gone.

    Attributes:
        stderr_tail: The last lines that it wrote to stderr.
    """

    def __init__(self, text: str, stderr_tail: tuple[str, ...]) -> None:
        super().__init__(text)
        self.stderr_tail = stderr_tail


class CrashError(NoAnswerError):
    """A child ended, or closed its output.

    Attributes:
        how: E.g. the signal's name, or the exit status.
    """

    def __init__(self, how: str, stderr_tail: tuple[str, ...]) -> None:
        super().__init__(f"crashed ({how})", stderr_tail)
        self.how = how


class HangError(NoAnswerError):
    """A child did not answer in time, and was killed.

    Attributes:
        seconds: How long was waited.
    """

    def __init__(self, seconds: float, stderr_tail: tuple[str, ...]) -> None:
        super().__init__(f"did not answer within {seconds:g} s", stderr_tail)
        self.seconds = seconds


class Child:
    """A Python process that answers one question after the other.

    It is started when it is first needed, and again after it ended. One thread may ask at a time.
    """

    def __init__(self, *arguments: str) -> None:
        """Starts nothing yet.

        Args:
            *arguments: Of the Python interpreter, e.g. `-m` and a module that calls `serve`.
        """
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[str] | None = None
        self._asking: threading.Thread | None = None

    def ask(self, question: Any, *, timeout: float = ANSWER_SECONDS) -> Any:
        """The child's answer.

        Args:
            question: What JSON can hold.
            timeout: Seconds to wait for the answer; the start of the child is part of them.

        Raises:
            CrashError: The child ended.
            HangError: It did not answer in time.
        """
        process = self.start()
        answers: list[str] = []
        # a thread, since a pipe cannot be read with a time limit on every system
        asking = threading.Thread(
            target=_exchange, args=(process, json.dumps(question), answers), daemon=True
        )
        self._asking = asking
        asking.start()
        try:
            asking.join(timeout)
        except BaseException:  # Ctrl-C: the next question would get this one's answer
            self.close()
            raise
        if answers:
            return json.loads(answers[0])
        if asking.is_alive():
            stderr_tail = self._stderr_tail()
            self.close()
            raise HangError(timeout, stderr_tail)
        raise self._crash(process)

    def start(self) -> subprocess.Popen[str]:
        """The running process; started if there is none."""
        if self._process is not None and self._process.poll() is not None:
            self.close()  # killed from outside, between two questions
        if self._process is None:
            self._stderr = tempfile.TemporaryFile(  # noqa: SIM115 - lives as long as the child
                "w+", encoding="utf-8", errors="replace"
            )
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
                encoding="utf-8",
            )
        return self._process

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()  # it holds nothing, and an orderly end takes it half a second
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
            if self._asking is not None:
                self._asking.join(_END_SECONDS)
            if self._asking is None or not self._asking.is_alive():
                _close_pipes(process)  # while another thread reads one, closing it would wait
        self._asking = None
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def _crash(self, process: subprocess.Popen[str]) -> CrashError:
        try:
            code = process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            how = "it closed its output"
        else:
            how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        stderr_tail = self._stderr_tail()
        self.close()
        return CrashError(how, stderr_tail)

    def _stderr_tail(self) -> tuple[str, ...]:
        assert self._stderr is not None
        self._stderr.seek(0)
        return tuple(self._stderr.read().strip().splitlines()[-_TAIL_LINES:])


def _exchange(process: subprocess.Popen[str], question: str, answers: list[str]) -> None:
    """Writes a question, and appends the answer's line; nothing when the process ends."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):  # it died: there is no answer to read
        process.stdin.write(question + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if answer.endswith("\n"):
            answers.append(answer)


def _close_pipes(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    process.stdout.close()


def serve(answer: Callable[[Any], Any], prepare: Callable[[], None] = lambda: None) -> None:
    """The child's side: answers the questions on stdin until it ends.

    Args:
        answer: Makes of a question its answer, which JSON can hold.
        prepare: Is called first, e.g. to import what takes long.
    """
    # what libraries print, while they are loaded or later, must not be taken for an answer
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    prepare()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True, file=answers)
