"""How close outputs are, in a word: for people who compare exports, beside the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_onnxcheck.measurement import EquivalenceMeasurement

__all__ = ["Closeness", "Quality", "closeness"]

Quality = Literal["excellent", "good", "poor"]

#: the largest difference as a share of the largest output, and the smallest cosine similarity, up
#: to which outputs are called so
_BOUNDS: tuple[tuple[Quality, float, float], ...] = (
    ("excellent", 1e-3, 0.9999),
    ("good", 1e-1, 0.99),
)


@dataclass(frozen=True)
class Closeness:
    """How far an artefact is from PyTorch over the declared cases, at its worst.

    Attributes:
        max_abs: max |artefact - PyTorch|; None where shapes differ or nothing was compared.
        mse: Mean squared difference of the output where it is largest.
        cosine: The smallest cosine similarity of an output.
        floors: The largest error in noise floors; None where no floor was measured.
        quality: In a word: `poor` where it cannot be told.
    """

    max_abs: float | None
    mse: float | None
    cosine: float | None
    floors: float | None
    quality: Quality


def closeness(measured: EquivalenceMeasurement) -> Closeness:
    """Sums up a measurement over its declared cases."""
    outputs = [output for case in measured.declared for output in case.outputs]
    floors = [output.floor.farthest for output in outputs if output.floor is not None]
    cosines = [output.cosine for output in outputs if output.cosine is not None]
    broken = any(case.error for case in measured.declared) or not outputs
    return Closeness(
        max_abs=measured.max_abs,
        mse=max((output.mse for output in outputs if output.mse is not None), default=None),
        cosine=min(cosines, default=None),
        floors=max(floors, default=None),
        quality="poor" if broken else _quality(measured),
    )


def _quality(measured: EquivalenceMeasurement) -> Quality:
    found = 0
    for case in measured.declared:
        for output in case.outputs:
            if output.max_abs is None or output.cosine is None or output.nonfinite:
                return "poor"
            share = output.max_abs / output.scale if output.scale else float(output.max_abs > 0)
            within = (
                place
                for place, (_, most, least) in enumerate(_BOUNDS)
                if share <= most and output.cosine >= least
            )
            found = max(found, next(within, len(_BOUNDS)))
    return _BOUNDS[found][0] if found < len(_BOUNDS) else "poor"
