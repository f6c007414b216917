"""Peak of a process's resident memory, as the kernel counts it.

Python's own tools see nothing of what native code allocates. The sandbox's child measures with
it: it imports nothing that is slow.
"""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path
from typing import Any

__all__ = ["added_peak"]


def added_peak(run: Any) -> int | None:
    """Bytes that a call adds to this process's peak of resident memory.

    Args:
        run: The call; what it returns lives until the peak was read.
    """
    with contextlib.suppress(OSError, AttributeError):  # glibc only
        ctypes.CDLL(None).malloc_trim(0)  # freed pages would be used again, and not be seen
    try:
        with contextlib.suppress(OSError):  # some containers forbid it
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        before, reset = _status("VmRSS"), _status("VmHWM")
        kept = run()
        after = _status("VmHWM")
        del kept
    except (OSError, ValueError):
        return None
    # an earlier peak that could not be reset hides this one unless it is higher
    hidden = reset > before and after <= reset
    return None if hidden else after - before


def _status(key: str) -> int:
    """A line of `/proc/self/status`, which counts in kB."""
    text = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    line = next(line for line in text.splitlines() if line.startswith(f"{key}:"))
    return int(line.split()[1]) * 1024
