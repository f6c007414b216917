"""How what is measured can be judged here: the engine measures, and is handed the judgement."""

from __future__ import annotations

from collections.abc import Callable

from pytest_onnxcheck.manifest import Variant
from pytest_onnxcheck.measurement import Measurement

__all__ = ["Failure"]

#: Says what fails of a measurement of a variant, in one line; None when nothing does. It is
#: `judge.failure`, which the engine may not import.
Failure = Callable[[Measurement, Variant], str | None]
