"""Libraries are left out of Python's garbage collection: what an import makes lives to the end.

torch, the exporters and what they import are a third of a million objects. Walking them takes a
fifth of a second each time that all garbage is collected: now and then in a run, twice when pytest
ends, and several times when Python does.
"""

from __future__ import annotations

import atexit
import functools
import gc

__all__ = ["leave_out"]


@functools.cache
def leave_out(libraries: str) -> None:
    """Leaves out all that lives now; and at Python's end, whatever lives then.

    Objects are freed as ever when nothing refers to them; but cycles of those that live now stay.
    After the first export the model is among these, and stays if it refers to itself; a copy that
    was made of it has to be gone by then.

    Args:
        libraries: What was imported just before. Each is left out once a process.
    """
    gc.collect()
    gc.freeze()
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)
