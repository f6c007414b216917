"""Runs the checks of a model in a fork of this process, and ends it when it runs over a limit.

::

    parent  -- {"run": NODEID, "limits": ..., ...} -->  supervisor  -- the same -->  child
            <-- what the child says, then {"died": ...} if it did not live to say "done" --
    parent  -- {"end": true} -->  supervisor: the child tears down and ends  -- {"ended": N} -->

The process that supervises runs no model, and has one thread.
"""

from __future__ import annotations

import json
import math
import os
import re
import select
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from pytest_onnxcheck.descendants import adopt, descendants, end_all, end_with_parent, memory
from pytest_onnxcheck.places import PACKAGE
from pytest_onnxcheck.processes import LONGEST_LINE, ended, own_output
from pytest_onnxcheck.progress import Stage
from pytest_onnxcheck.supervised.limits import Clock, Death, Limits

__all__ = ["Supervisor", "attach"]

#: seconds between two looks at the memory, and what they may take of a processor: each reads of
#: every process of the machine, and where there are many, fewer are taken
_LOOK, _LOOK_SHARE = 0.05, 0.05
#: seconds that a child has to say where it is, and to end when its checks are done
_SAY, _END = 0.5, 10.0
#: the signal on which a child writes where it is
_WHERE = signal.SIGUSR1
#: a line of faulthandler's
_FRAME = re.compile(r'File "(.+)", line (\d+) in (.+)')

#: what a child does: reads requests from a descriptor, and writes what it has to say to another
Work = Callable[[int, int], None]


def attach() -> tuple[int, IO[str]]:
    """Makes of this process one that supervises for the process that started it.

    It ends with that one, and so does all that it starts.

    Returns:
        The descriptor of requests, and where answers go: stdin and stdout, which nobody else reads
        or writes from now on.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the parent's
    adopt()
    end_with_parent(signal.SIGTERM)
    answers = own_output()
    requests = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # who reads stdin must not get a request
    os.close(nothing)
    return requests, answers


class _Lines:
    """The lines that come out of a descriptor."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._rest = bytearray()

    def read(self) -> list[bytes] | None:
        """The lines that are complete by what can be read now; None at the end of all."""
        try:
            chunk = os.read(self.descriptor, 1 << 16)
        except BlockingIOError:
            return []
        if not chunk or len(self._rest) > LONGEST_LINE:
            return None
        self._rest += chunk
        if b"\n" not in chunk:
            return []
        *lines, self._rest = self._rest.split(b"\n")
        return [bytes(line) for line in lines]


class _Child:
    """A fork that checks one model."""

    def __init__(self, work: Work, limits: Limits) -> None:
        from_us, self.requests = os.pipe()
        said, to_us = os.pipe()
        # where faulthandler writes; buffered nowhere
        self.trace: IO[bytes] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - lives as long
        with warnings.catch_warnings():
            # numpy has threads of its own, which Python 3.12 warns of; a fork starts them anew
            warnings.simplefilter("ignore", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self.requests)
                os.close(said)
                _settle(self.trace, limits)
                work(from_us, to_us)
                status = 0
            except BaseException:
                traceback.print_exc()
                status = 1
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)
        os.close(from_us)
        os.close(to_us)
        os.set_blocking(said, False)
        self.lines = _Lines(said)
        self.handle = os.pidfd_open(self.pid)

    def close(self) -> None:
        """Closes what this process has of it."""
        self.trace.close()
        for descriptor in (self.lines.descriptor, self.handle):
            os.close(descriptor)
        self.hang_up()

    def hang_up(self) -> None:
        """Ends its input."""
        if self.requests >= 0:
            os.close(self.requests)
            self.requests = -1


def _settle(trace: IO[bytes], limits: Limits) -> None:
    """Makes of a fork a process group of its own that is held to limits."""
    import faulthandler
    import resource

    os.setsid()
    end_with_parent(signal.SIGKILL)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_DFL)
    with suppress(OSError):  # the kernel is to end this one, when memory is short
        Path("/proc/self/oom_score_adj").write_text("1000")
    faulthandler.enable(trace, all_threads=False)
    faulthandler.register(_WHERE, trace, all_threads=False)
    if limits.memory is not None:
        most = 2 * limits.memory + _mapped()
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _mapped() -> int:
    """Bytes of data that this process has mapped, as `RLIMIT_DATA` counts them."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"VmData:\s+(\d+) kB", status)
    return 1024 * int(found[1]) if found else 0


class Supervisor:
    """What answers the parent's requests.

    Args:
        requests: A descriptor, whose end is the end of everything.
        answers: Where to.
        work: What a child does.
        root: Folder of the user's project, by which a line of theirs is told from a library's.
    """

    def __init__(self, requests: int, answers: IO[str], work: Work, root: Path) -> None:
        self._requests = _Lines(requests)
        self._answers = answers
        self._work = work
        self._root = root
        self._child: _Child | None = None

    def serve(self) -> None:
        """Answers requests until there are no more, and leaves no process behind.

        SIGTERM ends it too. Nothing is raised where the signal arrives, which may be while the
        processes are ended.
        """
        signal.signal(signal.SIGTERM, self._no_more)
        try:
            while (lines := self._requests.read()) is not None:
                for line in lines:
                    request = json.loads(line)
                    if "run" in request:
                        self._run(request, line)
                    else:
                        self._tell({"ended": self._end()})
        except (SystemExit, BrokenPipeError):  # the parent is gone
            pass
        finally:
            self._sweep()

    def _no_more(self, *_: object) -> None:
        """Puts the end of all requests in their place."""
        end, write = os.pipe()
        os.close(write)
        os.dup2(end, self._requests.descriptor)
        os.close(end)

    def _run(self, request: Mapping[str, Any], line: bytes) -> None:
        limits = Limits(**request["limits"])
        if self._child is not None and self._wait(self._child, 0.0)[1]:
            self._sweep()  # it ended after its last check
        child = self._child = self._child or _Child(self._work, limits)
        clock = Clock(limits)
        with suppress(BrokenPipeError):
            os.write(child.requests, line + b"\n")
        look = 0.0  # when to
        while True:
            until_look = math.inf if limits.memory is None else look - time.monotonic()
            said, gone = self._wait(child, min(clock.left, until_look))
            if any(self._heard(each, clock) for each in said):
                return
            if gone:
                return self._died(child, clock, ended(self._code(child)))
            if clock.left <= 0:
                return self._died(child, clock, "time")
            if limits.memory is not None and time.monotonic() >= look:
                before = time.process_time()
                if (held := memory(descendants())) > limits.memory:
                    return self._died(child, clock, "memory", held)
                took = time.process_time() - before
                look = time.monotonic() + max(_LOOK, took / _LOOK_SHARE)

    def _wait(self, child: _Child, seconds: float) -> tuple[list[bytes], bool]:
        """What a child says within some time, and whether it has ended.

        Raises:
            SystemExit: The parent is gone.
        """
        waiting = select.poll()
        waiting.register(self._requests.descriptor, 0)  # its end alone
        for descriptor in (child.lines.descriptor, child.handle):
            waiting.register(descriptor, select.POLLIN)
        timeout = None if seconds == math.inf else max(0.0, 1000 * seconds)
        ready = {descriptor for descriptor, _ in waiting.poll(timeout)}
        if self._requests.descriptor in ready:
            raise SystemExit
        gone = child.handle in ready
        said = []
        while child.lines.descriptor in ready:
            lines = child.lines.read()
            if lines is None and not gone:
                os.kill(child.pid, signal.SIGKILL)  # it closed its output, or said too much
                gone = True
            if not lines:
                break
            said += lines
        return said, gone

    def _heard(self, line: bytes, clock: Clock) -> bool:
        """Hands on what a child said; whether that was the last of this check."""
        try:
            message = json.loads(line)
        except ValueError:  # it did not come to its end, or is somebody else's
            return False
        if "phase" in message:
            clock.now(message["phase"], None)
        if "stage" in message:
            stage = message["stage"]
            clock.now(clock.phase, None if stage is None else Stage(**stage))
        self._answers.write(line.decode() + "\n")
        self._answers.flush()
        return "done" in message

    def _died(self, child: _Child, clock: Clock, how: str, held: int = 0) -> None:
        """Tells how a child ended, or ends it."""
        seconds = clock.seconds
        if how in ("time", "memory"):
            self._ask_where(child)
        trace = self._trace(child)
        self._sweep()
        death = Death(
            how=how,
            stage=clock.stage,
            phase=clock.phase,
            seconds=seconds,
            held=held,
            where=_innermost(trace, self._root),
        )
        self._tell({"died": death.to_json()})

    def _ask_where(self, child: _Child) -> None:
        with suppress(ProcessLookupError):
            os.kill(child.pid, _WHERE)
        until = time.monotonic() + _SAY
        before = -1
        # until it has written something, and nothing more
        while (size := os.fstat(child.trace.fileno()).st_size) != before or not size:
            before = size
            if time.monotonic() > until:
                break
            time.sleep(0.02)

    def _trace(self, child: _Child) -> str:
        child.trace.seek(0)
        return child.trace.read().decode(errors="replace")

    def _end(self) -> int:
        """Lets a child tear down and end; how many processes it had left behind."""
        child = self._child
        if child is None:
            return 0
        child.hang_up()
        until = time.monotonic() + _END
        while time.monotonic() < until and not self._wait(child, until - time.monotonic())[1]:
            pass
        return self._sweep()

    def _sweep(self) -> int:
        """Ends what is left of a child; how many others there were."""
        child, self._child = self._child, None
        if child is None:
            return 0
        others = end_all(child.pid)
        child.close()
        return others

    def _code(self, child: _Child) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])

    def _tell(self, message: Mapping[str, Any]) -> None:
        print(json.dumps(message), file=self._answers, flush=True)


def _innermost(trace: str, root: Path) -> str:
    """The innermost line of the user's that ran: `nets.py:12 in forward`.

    Else of a library that is not of Python itself, and not what runs checks; empty without any.
    """
    libraries = ""
    for path, line, function in _FRAME.findall(trace):
        _, packages, inside = path.rpartition("/site-packages/")
        if packages:
            if not libraries and not inside.startswith(
                ("_pytest/", "pluggy/", "pytest_onnxcheck/")
            ):
                libraries = f"{inside}:{line} in {function}"
        elif Path(path).is_relative_to(root) and not path.startswith((sys.prefix, str(PACKAGE))):
            return f"{Path(path).relative_to(root)}:{line} in {function}"
    return libraries
