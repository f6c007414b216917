"""The C heap of one of several processes that work at once on a machine."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed"]

#: mallopt's parameters, of <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

#: bytes of the smallest block that goes back to the system as soon as it is freed: the most that
#: glibc comes to by itself, and that all of its versions take
_RETURNED = 32 * 2**20

#: bytes that are kept free at the end of a heap
_KEPT = 256 * 2**20

#: where users say by themselves how memory is kept
_ASKED = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")


def keep_freed() -> None:
    """Keeps what is freed for what is needed next, in glibc; unless the user has said how.

    Else the arrays of large layers go back to the system and are asked for again, page by page.
    What is still used may lie behind what is kept, which may then be more than `_KEPT`. Not for a
    process that times models, which are timed as users run them, nor for one with a memory limit.
    """
    if any(name in os.environ for name in _ASKED):
        return
    if "glibc.malloc." in os.environ.get("GLIBC_TUNABLES", "") or sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    # either, once set, ends glibc's own ways with both
    if mallopt is not None and mallopt(_MMAP_THRESHOLD, _RETURNED):
        mallopt(_TRIM_THRESHOLD, _KEPT)
