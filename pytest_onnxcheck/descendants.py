"""The processes that come from this one: how much memory they hold, and how all of them end.

Linux alone has what this needs. Imports nothing of ours.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

__all__ = ["adopt", "descendants", "end_all", "end_marked", "end_with_parent", "memory"]

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36

#: lines of `/proc/PID/status` that count what no file backs, in RAM and in swap, in kB
_HELD = ("RssAnon:", "RssShmem:", "VmSwap:")

#: how long killed processes may take to be gone: one that waits for a driver cannot be killed
_END_SECONDS = 5.0


def adopt() -> None:
    """Makes this process the parent of its descendants whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(signum: signal.Signals) -> None:
    """Has the kernel send this process a signal when the one that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def descendants() -> list[int]:
    """The processes that come from this one, the nearest first; zombies too."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with suppress(OSError):  # it has ended since
                parent = int(_stat(path)[1])
                children.setdefault(parent, []).append(int(path.name))
    found = [os.getpid()]
    for pid in found:
        found += children.get(pid, [])
    return found[1:]


def memory(pids: Iterable[int]) -> int:
    """Bytes that processes hold and that no file backs, in RAM and in swap.

    Memory that a fork shares with its parent counts for each of them.
    """
    total = 0
    for pid in pids:
        with suppress(OSError):
            for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
                if line.startswith(_HELD):
                    total += 1024 * int(line.split()[1])
    return total


def end_all(group: int) -> int:
    """Ends all descendants of this process.

    Args:
        group: The process group that most of them are in: it ends at one blow, forks included.

    Returns:
        How many there were besides the group's leader.
    """
    others = {pid for pid in descendants() if pid != group and not _is_zombie(pid)}
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    until = time.monotonic() + _END_SECONDS
    while (found := descendants()) and time.monotonic() < until:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.002)
    return len(others)


def end_marked(entry: str) -> None:
    """Ends all processes, of whatever parent, that began with an entry in their environment.

    Args:
        entry: `NAME=value`, which this process was not started with.
    """
    until = time.monotonic() + _END_SECONDS
    while (found := _marked(entry.encode())) and time.monotonic() < until:
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)


def _marked(entry: bytes) -> list[int]:
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            with suppress(OSError):  # it has ended since, or is another user's
                if entry in (path / "environ").read_bytes().split(b"\0"):
                    found.append(int(path.name))
    return found


def _is_zombie(pid: int) -> bool:
    try:
        return _stat(Path(f"/proc/{pid}"))[0] == "Z"
    except OSError:
        return True


def _stat(process: Path) -> list[str]:
    """A process's state, its parent, and so on."""
    # the name of the command, in brackets before them, may hold anything
    return (process / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
