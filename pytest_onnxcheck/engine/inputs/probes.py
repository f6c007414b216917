"""Probes: cases made from the declared shapes, dtypes and ranges, to reveal what draws do not.

A probe varies all inputs of one family together and leaves the others as they usually are, so a
model with a float, a mask and ids gets the sum of their kinds, not the product.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pytest_onnxcheck.engine.inputs.cases import (
    Case,
    dim_values,
    example_dims,
    fill_inputs,
    generator,
)
from pytest_onnxcheck.manifest.sections import Input

if TYPE_CHECKING:
    import numpy as np

    from pytest_onnxcheck.engine.reference.reference import Reference

    Array = np.ndarray[Any, Any]

__all__ = ["EXTREME", "ORDINARY", "Probe", "probes"]

#: the kind of an input that is filled as the manifest says
ORDINARY = "ordinary"

#: Floats without and with a range, inputs that are 0 or 1, other whole numbers; None is never
#: varied: constants, and real examples without a range.
_Family = Literal["free", "within", "mask", "integers"] | None

#: Kinds far from what draws give: without a declared range nobody said the model is made for them.
EXTREME = frozenset(["normal x30", "mixed scales"])

#: What is varied and how, the most revealing first.
_STEPS: tuple[dict[_Family, str], ...] = (
    {"free": "negative", "within": "low end"},
    {"free": "normal x3", "within": "ends alternating"},
    {"free": "nan", "within": "nan"},
    {"free": "infinity", "within": "infinity"},
    {"mask": "all false"},
    {"mask": "one row false"},
    {"mask": "right padding"},
    {"free": "zeros", "within": "middle"},
    {"free": "sorted", "within": "sorted"},
    {"free": "ties", "within": "ties"},
    {"integers": "low end"},
    {"integers": "high end"},
    {"integers": "ends alternating"},
    {"free": "normal x0.001", "within": "tiny"},
    {"free": "normal x30"},
    {"free": "mixed scales"},
    {"free": "ones", "within": "high end"},
    {"integers": "repeated"},
    {"free": "sparse"},
    {"free": "one-hot"},
    {"free": "constant rows"},
    {"mask": "left padding"},
    {"mask": "single true"},
    {"mask": "alternating"},
    {"integers": "sorted"},
    {"integers": "middle"},
    {"integers": "arange"},
    {"free": "nan row", "within": "nan row"},
    {"free": "positive"},
    {"free": "uniform", "within": "uniform"},
    {"integers": "uniform"},
    {"mask": "all true"},
)

#: only for inputs that declare `nonfinite`
_NONFINITE = frozenset({"nan", "infinity", "nan row"})

#: Kinds that are the same along every axis. The others mean nothing along an axis of size 1.
_ANY_SIZE = frozenset(
    {
        "negative",
        "positive",
        "normal x3",
        "normal x30",
        "normal x0.001",
        "tiny",
        "zeros",
        "ones",
        "uniform",
    }
    | {"low end", "middle", "high end", "all false", "all true"}
)


@dataclass(frozen=True)
class Probe:
    """How one case is made; the arrays are not there before `case`.

    Attributes:
        name: Names the case and seeds its arrays.
        dims: Values of the symbolic dims. PyTorch itself may refuse sizes nobody declared.
        kinds: Input name -> kind, `ORDINARY` where the manifest fills it.
        draw: Which examples of a file to take.
    """

    name: str
    dims: dict[str, int]
    kinds: dict[str, str]
    draw: int

    def case(self, reference: Reference) -> Case:
        """Fills the arrays, the same every time.

        Raises:
            InputError: A file of real examples does not fit the declared inputs.
        """
        arrays = fill_inputs(reference, self.dims, self.name, self.draw)
        for name, kind in self.kinds.items():
            if kind != ORDINARY:
                rng = generator(reference.model, self.name, name)
                arrays[name] = _filled(kind, rng, reference.model.inputs[name], arrays[name])
        extreme = not EXTREME.isdisjoint(self.kinds.values())
        return Case(self.name, arrays, outside_range=extreme, probe=True)


def probes(reference: Reference) -> list[Probe]:
    """All probes of a model, the most revealing first.

    Sizes that nobody declared come first, then kinds of values; those take turns at the sizes,
    starting with small ones that the model was not exported with.
    """
    model = reference.model
    families = {name: _family(entry) for name, entry in model.inputs.items()}
    rest = {name: "all true" if families[name] == "mask" else ORDINARY for name in families}
    between = _between(model.dims)
    planned = [(ORDINARY, sizes, rest) for sizes in between]
    short, long = _turns(reference, between)
    either = itertools.cycle([short, long])
    for step in _STEPS:
        varied = {
            name: step[family]
            for name, family in families.items()
            if family in step and _applies(step[family], model.inputs[name])
        }
        if varied:
            family = next(family for family in step if family in map(families.get, varied))
            prefix = f"{family} " if family in ("mask", "integers") else ""
            label = prefix + step[family]
            turn = next(either) if _ANY_SIZE.issuperset(varied.values()) else long
            planned.append((label, next(turn), {**rest, **varied}))
    return [
        Probe(
            "/".join([f"probe:{label}", *(f"{dim}={size}" for dim, size in sizes.items())]),
            sizes,
            kinds,
            model.draws + index,  # examples the declared cases leave out
        )
        for index, (label, sizes, kinds) in enumerate(planned)
    ]


def _family(entry: Input) -> _Family:
    if entry.fill == "constant" or (entry.fill == "file" and entry.range is None):
        return None
    if entry.dtype == "bool":
        return "mask" if entry.range in (None, (0, 1)) else None
    is_float = entry.dtype.startswith("float")
    if entry.range is None:
        return "free" if is_float else None
    low, high = _ends(entry)
    if low >= high:
        return None
    if is_float and entry.fill != "integers":
        return "within"
    return "mask" if (low, high) == (0, 1) else "integers"


def _ends(entry: Input) -> tuple[float, float]:
    """The lowest and highest value of an input with a range, whole where it holds integers."""
    assert entry.range is not None
    low, high = entry.range
    if entry.dtype.startswith("float") and entry.fill != "integers":
        return float(low), float(high)
    return math.ceil(low), math.floor(high)


def _applies(kind: str, entry: Input) -> bool:
    if kind in _NONFINITE:
        return entry.nonfinite
    if kind == "tiny":
        assert entry.range is not None
        return entry.range[0] <= 0 <= entry.range[1]
    return True


# sizes


def _between(dims: Mapping[str, tuple[int, ...]]) -> list[dict[str, int]]:
    """Combinations with sizes that nobody declared, at most two.

    Every dim has its odd one in one of them and its even one in the other. Neighbours differ:
    equal sizes hide swapped axes.
    """
    new = {dim: _undeclared(values) for dim, values in dims.items()}
    found: list[dict[str, int]] = []
    for turn in range(2 if any(new.values()) else 0):
        sizes = {}
        for index, (dim, values) in enumerate(dims.items()):
            choice = new[dim] or values
            sizes[dim] = choice[(turn + index) % len(choice)]
        if sizes not in found:
            found.append(sizes)
    return found


def _undeclared(values: tuple[int, ...]) -> tuple[int, ...]:
    """The smallest odd and even size strictly between the declared ones and not among them."""
    between = range(min(values) + 1, max(values))
    smallest = (
        next((size for size in between if size % 2 == parity and size not in values), None)
        for parity in (1, 0)
    )
    return tuple(size for size in smallest if size is not None)


def _turns(
    reference: Reference, between: list[dict[str, int]]
) -> tuple[Iterator[dict[str, int]], Iterator[dict[str, int]]]:
    """The sizes the kinds take turns at: with and without a dim that is 1 and could be larger.

    Both start with cheap ones and come to the exported one last; where there are none of a sort,
    both are the same iterator.
    """
    model = reference.model
    exported = example_dims(model)

    def ones(sizes: Mapping[str, int]) -> int:
        return sum(size == 1 < max(model.dims[dim]) for dim, size in sizes.items())

    def elements(sizes: Mapping[str, int]) -> int:
        return sum(
            math.prod(sizes[size] if isinstance(size, str) else size for size in shape)
            for shape in reference.shapes.values()
        )

    found = [*between, *(sizes for sizes in dim_values(model.dims) if sizes not in between)]
    found.sort(key=lambda sizes: (sizes == exported, ones(sizes), elements(sizes)))
    short = [sizes for sizes in found if ones(sizes)]
    long = [sizes for sizes in found if not ones(sizes)]
    rest = itertools.cycle(long or short)
    return itertools.cycle(short) if short and long else rest, rest


# values


def _filled(kind: str, rng: np.random.Generator, entry: Input, ordinary: Array) -> Array:
    """An array of a kind, shaped as the ordinary one; finite unless the kind says otherwise."""
    import numpy as np

    shape = ordinary.shape or (1,)
    family = _family(entry)
    values: Array
    with np.errstate(over="ignore"):  # what overflows is clipped
        if kind in _NONFINITE:
            values = _nonfinite(kind, rng, ordinary.reshape(shape))
        elif family == "free":
            values = _free(kind, rng, entry.mean, entry.std, shape)
        elif family == "within":
            values = _within(kind, rng, *_ends(entry), shape)
        elif family == "mask":
            values = _mask(kind, rng, shape)
        else:
            low, high = _ends(entry)
            values = _integers(kind, rng, int(low), int(high), shape)
    if entry.dtype.startswith("float") and kind not in _NONFINITE:
        largest = float(np.finfo(entry.dtype).max)
        values = np.clip(values, -largest, largest)
    return np.array(values, entry.dtype, order="C").reshape(ordinary.shape)


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


def _mask(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Booleans; the first axis counts examples, unless it is the only one."""
    import numpy as np

    examples, length = shape[0] if len(shape) > 1 else 1, shape[-1]
    if kind == "all true":
        return np.ones(shape, bool)
    if kind == "all false":
        return np.zeros(shape, bool)
    if kind == "one row false":
        mask = np.ones(shape, bool)
        first = mask if len(shape) == 1 else mask.reshape(-1, length)
        first[0] = False
        return mask
    if kind in ("right padding", "left padding"):
        # the first example is full and the last one of length 1; a single one is half full
        ends = (length, 1) if examples > 1 else ((length + 1) // 2,) * 2
        lengths = np.linspace(*ends, examples).round().astype(int)
        lengths = lengths.reshape(examples, *[1] * (len(shape) - 1))
        mask = np.broadcast_to(np.arange(length) < lengths, shape)
        return mask if kind == "right padding" else mask[..., ::-1]
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
