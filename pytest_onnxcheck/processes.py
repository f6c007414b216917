"""Child processes that answer questions, and that may crash or hang in the place of this one.

A message, such as a question or its answer, is one JSON value on one line.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

__all__ = [
    *("ANSWER_SECONDS", "LONGEST_LINE", "Child", "CrashError", "HangError", "NoAnswerError"),
    *("ended", "own_output", "serve"),
]

#: how long an answer may take: opening a session on a GPU can take minutes
ANSWER_SECONDS = 300.0
#: bytes of the longest line that is read; a child that writes a longer one is ended
LONGEST_LINE = 64 * 2**20
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
    """A process that is sent messages and sends some, or answers one question at a time.

    It is started when it is first needed, and again after it ended. One thread uses it at a time.
    """

    def __init__(
        self,
        *arguments: str,
        folder: Path | None = None,
        silent: bool = True,
        patience: float = 0.0,
        program: str = sys.executable,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts nothing yet.

        Args:
            *arguments: Of the interpreter, e.g. `-m` and a module that calls `serve`.
            folder: Where it runs; default: this process's folder.
            silent: Whether what it writes to stderr is kept for its last words; else it is shown.
            patience: Seconds that it has to end by itself, once its input has ended.
            program: The interpreter, or another program that takes these arguments.
            environment: Its environment variables; default: this process's.
        """
        self._command = [program, *arguments]
        self._environment = environment
        self._told = 0
        self._folder = folder
        self._silent = silent
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None
        self._stderr: IO[str] | None = None
        self._questions: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._threads: list[threading.Thread] = []

    def ask(self, question: Any, *, timeout: float = ANSWER_SECONDS) -> Any:
        """The child's answer.

        Args:
            question: What JSON can hold.
            timeout: Seconds to wait for the answer; the start of the child is part of them.

        Raises:
            CrashError: The child ended, or wrote what is no answer.
            HangError: It did not answer in time.
            OSError: It cannot be started.
        """
        self.send(question)
        return self.receive(timeout)

    def send(self, message: Any) -> None:
        """Sends what JSON can hold; does not wait until it is read."""
        self.start()
        self._questions.put(json.dumps(message).encode() + b"\n")

    def receive(self, timeout: float | None = None) -> Any:
        """The child's next message.

        Args:
            timeout: Seconds to wait; None for as long as the child lives.

        Raises:
            CrashError: The child ended, or wrote what is no message.
            HangError: It sent nothing in time.
        """
        try:
            return self._next(timeout)
        except queue.Empty:
            stderr_tail = self._stderr_tail()
            self.close()
            raise HangError(timeout or 0.0, stderr_tail) from None

    def poll(self, seconds: float) -> Any:
        """The child's next message; None where it sends none within some seconds, and lives.

        Raises:
            CrashError: The child ended, or wrote what is no message.
        """
        try:
            return self._next(seconds)
        except queue.Empty:
            return None

    def _next(self, timeout: float | None) -> Any:
        process = self._process or self.start()
        try:
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            raise
        except BaseException:  # Ctrl-C: the next question would get this one's answer
            self.close()
            raise
        if not line.endswith(b"\n"):
            raise self._crash(process, line)
        try:
            return json.loads(line)
        except ValueError:
            raise self._crash(process, line) from None

    @property
    def alive(self) -> bool:
        """Whether it has been started, and runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> subprocess.Popen[bytes]:
        """The running process; started if there is none.

        Raises:
            OSError: It cannot be started.
        """
        if self._process is not None and self._process.poll() is not None:
            self.close()  # killed from outside, between two questions
        if self._process is None:
            if self._silent:
                self._told = 0
                self._stderr = tempfile.TemporaryFile(  # noqa: SIM115 - lives as long as the child
                    "a+",  # it is read while the child writes
                    encoding="utf-8",
                    errors="replace",
                )
            try:
                process = subprocess.Popen(
                    self._command,
                    env=self._environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._stderr,
                    cwd=self._folder,
                )
            except BaseException:
                self.close()
                raise
            self._process = process
            self._questions, self._answers = queue.SimpleQueue(), queue.Queue()
            # threads, since a pipe cannot be read or written with a time limit on every system
            self._threads = [
                threading.Thread(target=each, args=(process, pipe), daemon=True)
                for each, pipe in ((_write, self._questions), (_read, self._answers))
            ]
            for thread in self._threads:
                thread.start()
        return self._process

    def close(self) -> None:
        """Ends the process."""
        process, self._process = self._process, None
        if process is not None:
            self._questions.put(None)
            if self._patience:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(self._patience)
            process.kill()  # it holds nothing, and an orderly end takes it half a second
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
            for thread in self._threads:
                thread.join(_END_SECONDS)
            if not any(thread.is_alive() for thread in self._threads):
                _close_pipes(process)  # while another thread reads one, closing it would wait
        if self._stderr is not None:
            self._stderr.close()
            self._stderr = None

    def told(self) -> str:
        """What it wrote to stderr since this was last asked; nothing where that is shown."""
        if self._stderr is None:
            return ""
        self._stderr.seek(0)
        text = self._stderr.read()
        new, self._told = text[self._told :], len(text)
        return new

    def refuse(self, how: str) -> CrashError:
        """Ends the process, because what it sent is no answer; gives the error that says so."""
        stderr_tail = self._stderr_tail()
        self.close()
        return CrashError(how, stderr_tail)

    def _crash(self, process: subprocess.Popen[bytes], line: bytes) -> CrashError:
        """What became of a child whose output ended with a line that is no message."""
        if len(line) > LONGEST_LINE:
            how = f"it wrote a line of more than {LONGEST_LINE >> 20} MiB"
        elif line.endswith(b"\n"):
            how = "it wrote what is no message"
        else:
            try:
                code = process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                how = "it closed its output"
            else:
                how = ended(code)
        return self.refuse(how)

    def _stderr_tail(self) -> tuple[str, ...]:
        if self._stderr is None:
            return ()
        self._stderr.seek(0)
        return tuple(self._stderr.read().strip().splitlines()[-_TAIL_LINES:])


def ended(code: int) -> str:
    """How a process ended, from its status as `subprocess` gives it: a signal's is negative."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:  # a real-time signal has no name
        return f"signal {-code}"


def _write(process: subprocess.Popen[bytes], questions: queue.SimpleQueue[bytes | None]) -> None:
    """Writes what is put into a queue, and at None ends the process's input."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):  # it died: `_read` tells
        while (question := questions.get()) is not None:
            process.stdin.write(question)
            process.stdin.flush()
        process.stdin.close()


def _read(process: subprocess.Popen[bytes], answers: queue.Queue[bytes]) -> None:
    """Puts the lines of a process into a queue, and last what is no line."""
    assert process.stdout is not None
    line = b"\n"
    with contextlib.suppress(OSError):
        while line.endswith(b"\n"):
            line = process.stdout.readline(LONGEST_LINE + 1)
            answers.put(line)


def _close_pipes(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    process.stdout.close()


def own_output() -> IO[str]:
    """The child's side: the stream for messages. What is printed goes to stderr from now on.

    What libraries print, while they are loaded or later, must not be taken for a message.
    """
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return messages


def serve(answer: Callable[[Any], Any], prepare: Callable[[], None] = lambda: None) -> None:
    """The child's side: answers the questions on stdin until it ends.

    Args:
        answer: Makes of a question its answer, which JSON can hold.
        prepare: Is called first, e.g. to import what takes long.
    """
    answers = own_output()
    prepare()
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True, file=answers)
