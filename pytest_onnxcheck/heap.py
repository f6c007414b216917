"""The C heap of one of several processes that work at once on a machine."""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["keep_freed"]

#: mallopt's parameters, of <malloc.h>
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3

#: bytes of the smallest block that goes back to the system as soon as it is freed
_RETURNED = 64 * 2**20

#: bytes that are kept free at the end of the heap
_KEPT = 256 * 2**20

#: where users say by themselves how memory is kept
_ASKED = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed() -> None:
    """Keeps what is freed for what is needed next, in glibc; unless the user has said how.

    Else the arrays of every layer go back to the system and are asked for again, page by page, for
    which processes wait on one another: on a virtual machine two workers take 6% longer. Not for a
    process that times models, which are timed as users run them.
    """
    if sys.platform != "linux" or any(name in os.environ for name in _ASKED):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _RETURNED)
        mallopt(_TRIM_THRESHOLD, _KEPT)
