"""What an input may not do: read outside of its folder, start programs, take memory."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import sysconfig
from pathlib import Path

#: bytes that one input may add to the process
MEMORY = 1 << 28
#: bytes of address space beyond what the process has when it starts: what asks for more gets none
SPACE = 6 << 30

_IN_ACCESS, _IN_OPEN, _IN_NONBLOCK = 0x1, 0x20, 0o4000

#: what is looked for all over the place while something is imported, or a process is started
_OWN = ("/proc/", "/sys/", "/dev/null", "/dev/urandom", "/usr/", "/etc/ld.so", "/lib")
_STARTED = {"subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "socket.connect"}


class Guard:
    """Notes what an input reads outside of its folder, starts, and takes of memory.

    Python's own reads are seen by an audit hook, those of libraries on a file that is watched:
    inputs that point outside point to it.
    """

    def __init__(self, allowed: Path, outside: Path) -> None:
        repository = Path(__file__).parents[2]
        roots = [allowed, repository, Path(sys.prefix), Path(sys.base_prefix)]
        roots += [Path(sysconfig.get_paths()["purelib"]).resolve(), *map(Path, sys.path)]
        self._roots = tuple(str(root.resolve()) for root in roots if str(root) not in ("", "."))
        self._noted: list[str] = []
        self.on = False
        self.may_start = False
        self._inotify = _watch(outside)
        sys.addaudithook(self._hear)

    def limit(self) -> None:
        """Bounds the address space from here on."""
        space = _status("VmSize") + SPACE
        resource.setrlimit(resource.RLIMIT_AS, (space, space))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def begin(self) -> None:
        self._noted.clear()
        self._drain()
        Path("/proc/self/clear_refs").write_text("5")
        self._before = _status("VmRSS")
        self.on = True

    def end(self) -> list[str]:
        """What was wrong since `begin`."""
        self.on = False
        noted = list(dict.fromkeys(self._noted))
        if self._drain():
            noted.append("a file outside of the folder was opened")
        added = _status("VmHWM") - self._before
        if added > MEMORY:
            noted.append(f"{added >> 20} MB of memory were taken")
        return noted

    def _hear(self, event: str, arguments: tuple) -> None:
        if not self.on:
            return
        if event in _STARTED and not self.may_start:
            self._noted.append(f"{event} {arguments[0]!r}")
        elif event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path = os.path.realpath(os.fsdecode(arguments[0]))
            if not path.startswith((*self._roots, *_OWN)) and path != os.devnull:
                self._noted.append(f"opened {path}")

    def _drain(self) -> bytes:
        try:
            return os.read(self._inotify, 1 << 16)
        except BlockingIOError:
            return b""


def _watch(path: Path) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(_IN_NONBLOCK)
    if libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_ACCESS | _IN_OPEN) < 0:
        raise OSError(ctypes.get_errno(), f"inotify on {path}")
    return descriptor


def _status(key: str) -> int:
    """A line of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(key)
