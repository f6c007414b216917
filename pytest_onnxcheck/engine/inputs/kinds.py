"""Kinds of values: an input's family, and an array of each kind that a family has."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from pytest_onnxcheck.engine.inputs import masks
from pytest_onnxcheck.manifest.sections import Input

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["NONFINITE", "Family", "ends", "family_of", "filled"]

#: Floats without and with a range, masks, other inputs that are 0 or 1, other whole numbers; None
#: is never varied: constants, and real examples without a range.
Family = Literal["free", "within", "mask", "binary", "integers"] | None

#: only for inputs that declare `nonfinite`
NONFINITE = frozenset({"nan", "infinity", "nan row"})


def filled(kind: str, rng: np.random.Generator, entry: Input, ordinary: Array) -> Array:
    """An array of a kind, shaped as the ordinary one; finite unless the kind says otherwise."""
    import numpy as np

    if not ordinary.size:
        return ordinary
    shape = ordinary.shape or (1,)
    family = family_of(entry)
    values: Array
    with np.errstate(over="ignore"):  # what overflows is clipped
        if kind in NONFINITE:
            values = _nonfinite(kind, rng, ordinary.reshape(shape))
        elif family == "free":
            values = _free(kind, rng, entry.mean, entry.std, shape)
        elif family == "within":
            values = _within(kind, rng, *ends(entry), shape)
        elif family == "mask":
            values = masks.of_kind(entry, _binary(kind, rng, shape), kind)
        elif family == "binary":
            values = _binary(kind, rng, shape)
        else:
            low, high = ends(entry)
            values = _integers(kind, rng, int(low), int(high), shape)
    if family != "mask" and entry.dtype.startswith("float") and kind not in NONFINITE:
        largest = float(np.finfo(entry.dtype).max)
        values = np.clip(values, -largest, largest)
    return np.array(values, entry.dtype, order="C").reshape(ordinary.shape)


def family_of(entry: Input) -> Family:
    """The family of an input, by its dtype, range and fill."""
    if entry.fill == "constant" or (entry.fill == "file" and entry.range is None):
        return None
    if entry.fill == "mask":
        return "mask"
    if entry.dtype == "bool":
        return "binary" if entry.binary else None
    is_float = entry.dtype.startswith("float")
    if entry.range is None:
        return "free" if is_float else None
    low, high = ends(entry)
    if low >= high:
        return None
    if is_float and entry.fill != "integers":
        return "within"
    return "binary" if (low, high) == (0, 1) else "integers"


def ends(entry: Input) -> tuple[float, float]:
    """The lowest and highest value of an input with a range, whole where it holds integers."""
    assert entry.range is not None
    low, high = entry.range
    if entry.dtype.startswith("float") and entry.fill != "integers":
        return float(low), float(high)
    return math.ceil(low), math.floor(high)


def _free(
    kind: str, rng: np.random.Generator, mean: float, std: float, shape: tuple[int, ...]
) -> Array:
    """Floats without a range; the last axis is a row."""
    import numpy as np

    rows = (*shape[:-1], 1)
    if kind == "negative":
        return -np.abs(rng.normal(mean, std, shape))
    if kind == "positive":
        return np.abs(rng.normal(mean, std, shape))
    if kind == "normal x3":
        return rng.normal(mean, 3 * std, shape)
    if kind == "normal x30":
        return rng.normal(mean, 30 * std, shape)
    if kind == "normal x1000":
        return rng.normal(mean, 1000 * std, shape)
    if kind == "normal x0.001":
        return rng.normal(mean, 0.001 * std, shape)
    if kind == "zeros":
        return np.zeros(shape)
    if kind == "ones":
        return np.ones(shape)
    if kind == "sorted":
        span = rng.uniform(3, 8, rows)
        return mean + std * (np.linspace(-1, 1, shape[-1]) * span)
    if kind == "ties":
        return mean + std * (_repeated(rng, 5, shape) - 2) / 2
    if kind == "sparse":
        size = math.prod(shape)
        flat = np.zeros(size)
        kept = rng.choice(size, max(1, size // 10), replace=False)
        flat[kept] = rng.normal(mean, std, len(kept))
        return flat.reshape(shape)
    if kind == "one-hot":
        return _one_per_row(rng, shape)
    if kind == "constant rows":
        return np.broadcast_to(rng.normal(mean, std, rows), shape)
    if kind == "mixed scales":
        scaled = rows if math.prod(rows) > 1 else shape  # a single row: element by element
        powers = (np.arange(math.prod(scaled)) + rng.integers(6)) % 6 - 3
        return rng.normal(mean, std, shape) * 10.0 ** powers.reshape(scaled)
    assert kind == "uniform", kind
    return mean + std * rng.uniform(-math.sqrt(3), math.sqrt(3), shape)  # deviates by std


def _within(
    kind: str, rng: np.random.Generator, low: float, high: float, shape: tuple[int, ...]
) -> Array:
    """Floats in a range."""
    import numpy as np

    def between(part: Array | float) -> Array:
        # high - low may overflow; and rounding may leave the range
        return np.clip(low * (1 - np.asarray(part)) + high * np.asarray(part), low, high)

    if kind == "low end":
        return np.full(shape, low)
    if kind == "high end":
        return np.full(shape, high)
    if kind == "middle":
        return np.full(shape, between(0.5))
    if kind == "ends alternating":
        return np.where(_checkerboard(shape), low, high)
    if kind == "sorted":
        bent = rng.uniform(0.5, 2, (*shape[:-1], 1))  # so that rows differ
        return between(np.linspace(0, 1, shape[-1]) ** bent)
    if kind == "ties":
        return between(_repeated(rng, 5, shape) / 4)
    if kind == "spikes":
        largest = high if abs(high) >= abs(low) else low
        return np.where(_one_per_row(rng, shape), largest, min(max(low, 0.0), high))
    if kind == "tiny":
        return between(rng.random(shape)) * 0.001
    assert kind == "uniform", kind
    return between(rng.random(shape))


def _integers(
    kind: str, rng: np.random.Generator, low: int, high: int, shape: tuple[int, ...]
) -> Array:
    """Whole numbers in a range, both ends included."""
    import numpy as np

    if kind == "low end":
        return np.full(shape, low)
    if kind == "high end":
        return np.full(shape, high)
    if kind == "middle":
        return np.full(shape, (low + high) // 2)
    if kind == "ends alternating":
        return np.where(_checkerboard(shape), low, high)
    if kind == "repeated":
        return rng.integers(low, high, 3, endpoint=True)[_repeated(rng, 3, shape)]
    if kind == "arange":
        size = math.prod(shape)
        # the number of values may not fit int64
        return low + (np.arange(size) % min(high - low + 1, size)).reshape(shape)
    drawn = rng.integers(low, high, shape, endpoint=True)
    if kind == "sorted":
        drawn.sort(axis=-1)
        if shape[-1] > 1:
            drawn[..., 0], drawn[..., -1] = low, high
        return drawn
    assert kind == "uniform", kind
    return drawn


def _binary(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Booleans."""
    import numpy as np

    if kind == "all true":
        return np.ones(shape, bool)
    if kind == "all false":
        return np.zeros(shape, bool)
    if kind == "one row false":
        mask = np.ones(shape, bool)
        first = mask if len(shape) == 1 else mask.reshape(-1, shape[-1])
        first[0] = False
        return mask
    if kind in ("right padding", "left padding"):
        return masks.padded(shape, left=kind == "left padding")
    if kind == "single true":
        return _one_per_row(rng, shape)
    assert kind == "alternating", kind
    return _checkerboard(shape)


def _nonfinite(kind: str, rng: np.random.Generator, ordinary: Array) -> Array:
    import numpy as np

    shape = ordinary.shape
    if kind == "nan row":
        rows = ordinary.reshape(-1, shape[-1]).copy()
        rows[rng.integers(len(rows))] = np.nan
        return rows.reshape(shape)
    place = _one_per_row(rng, shape)
    if kind == "nan":
        return np.where(place, np.nan, ordinary)
    assert kind == "infinity", kind
    if shape[-1] == 1:
        return np.where(_checkerboard(shape), np.inf, -np.inf)
    values = np.where(place, np.inf, ordinary)
    return np.where(np.roll(place, 1, axis=-1), -np.inf, values)


def _one_per_row(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Booleans, true at one drawn place of every row."""
    import numpy as np

    places = rng.integers(0, shape[-1], (*shape[:-1], 1))
    return np.asarray(np.arange(shape[-1]) == places)


def _repeated(rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Array:
    """Numbers below a count; what stands in a row's first half stands there again."""
    import numpy as np

    half = (shape[-1] + 1) // 2
    drawn = rng.integers(0, count, (*shape[:-1], half))
    return np.take(drawn, np.arange(shape[-1]) % half, axis=-1)


def _checkerboard(shape: tuple[int, ...]) -> Array:
    """Booleans that alternate along every axis, true at the first place."""
    import numpy as np

    return np.asarray(sum(np.ogrid[tuple(slice(size) for size in shape)]) % 2 == 0)
