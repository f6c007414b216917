"""How long a stage may take and how much memory may be held, and which ran over."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_onnxcheck.progress import Stage

__all__ = ["Clock", "Death", "Limits"]


@dataclass(frozen=True)
class Limits:
    """What a model is held to.

    Attributes:
        seconds: Stage -> how long it may take in a check; `*` for those that are not named.
        memory: Bytes that its processes may hold together; None for any.
    """

    seconds: Mapping[str, float] = field(default_factory=dict)
    memory: int | None = None

    def of(self, stage: str) -> float:
        """How long a stage may take; infinity where nothing limits it."""
        return self.seconds.get(stage, self.seconds.get("*", math.inf))


@dataclass(frozen=True, kw_only=True)
class Death:
    """How the process of a model ended while it ran a check.

    Attributes:
        how: The signal's name or the exit status, or `time`, `memory` for what ran over.
        stage: What it did, and to what; None outside of every stage.
        phase: `setup`, `check` or `teardown`: which part of the check it was in.
        seconds: Stage -> how long it took, as in the record.
        held: Bytes that its processes held when they held too much.
        where: File, line and function that ran, where that is known.
    """

    how: str
    stage: Stage | None
    phase: str
    seconds: Mapping[str, float]
    held: int = 0
    where: str = ""

    @property
    def doing(self) -> str:
        """The stage by the word that limits and the record have for it."""
        return self.phase if self.stage is None else self.stage.doing

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, written: Mapping[str, Any]) -> Death:
        """From what `to_json` gives."""
        stage = written["stage"]
        return cls(**{**written, "stage": None if stage is None else Stage(**stage)})


class Clock:
    """Counts the seconds of each stage of one check, without the stages inside it."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._counted: dict[str, float] = {}
        self._since = time.monotonic()
        self.phase = "setup"
        self.stage: Stage | None = None

    def now(self, phase: str, stage: Stage | None) -> None:
        """Notes that something else is done from now on."""
        self._counted, self._since = self.seconds, time.monotonic()
        self.phase, self.stage = phase, stage

    @property
    def seconds(self) -> dict[str, float]:
        """Stage -> seconds up to now."""
        spent = time.monotonic() - self._since
        return {**self._counted, self._doing: self._counted.get(self._doing, 0.0) + spent}

    @property
    def left(self) -> float:
        """Seconds until the stage has run over; none or less when it has."""
        return self._limits.of(self._doing) - self.seconds[self._doing]

    @property
    def _doing(self) -> str:
        return self.phase if self.stage is None else self.stage.doing
