"""Which models are checked in a process of their own, and what they are held to there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pytest_onnxcheck.machine import total_memory
from pytest_onnxcheck.plugin.schedule import worker_count
from pytest_onnxcheck.supervised.limits import Limits

if TYPE_CHECKING:
    from pytest_onnxcheck.manifest import Model
    from pytest_onnxcheck.plugin.settings import Settings

__all__ = ["limits_of"]

#: what a file that the gate did not build is held to where nothing else is said: seconds that a
#: stage may take besides what the manifest and the command line ask for, and the share of the
#: machine's memory that the processes of all workers may hold
_GIVEN_SECONDS, _GIVEN_MEMORY = 600.0, 0.5


def limits_of(model: Model, settings: Settings) -> Limits | None:
    """What a model is held to in a process of its own; None for one in pytest's process."""
    if sys.platform != "linux" or model.isolate is False:
        return None
    seconds: dict[str, float] = {}
    memory = None
    if model.given:
        seconds["*"] = _GIVEN_SECONDS + model.probe_seconds + settings.search_seconds
        memory = round(_GIVEN_MEMORY * total_memory() / (worker_count() or 1))
    if settings.timeout is not None:
        seconds["*"] = settings.timeout
    seconds |= model.timeout
    memory_mb = settings.memory_mb if model.memory_mb is None else model.memory_mb
    if memory_mb is not None:
        memory = round(memory_mb * 1e6)
    if settings.isolate or model.isolate or seconds or memory is not None:
        return Limits(seconds, memory)
    return None
