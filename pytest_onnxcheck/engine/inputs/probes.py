"""Probes: cases made from the declared shapes, dtypes and ranges, to reveal what draws do not.

A probe varies all inputs of one family together and leaves the others as they usually are, so a
model with a float, a mask and ids gets the sum of their kinds, not the product. Of several floats
each is also as usual beside others that are next to nothing.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.inputs import masks
from pytest_onnxcheck.engine.inputs.cases import (
    Case,
    example_dims,
    fill_inputs,
    generator,
)
from pytest_onnxcheck.engine.inputs.kinds import NONFINITE, Family, family_of, filled
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.manifest.sections import Input
from pytest_onnxcheck.manifest.sizes import Shape, dim_values, fits, shape_at

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.reference.reference import Reference

__all__ = ["EXTREME", "ORDINARY", "Probe", "element_count", "probes", "resting"]

#: the kind of an input that is filled as the manifest says
ORDINARY = "ordinary"

#: Kinds far from what draws give: without a declared range nobody said the model is made for them.
#: They are still no larger than 10,000 times what the input usually is, and PyTorch's numbers must
#: stay numbers there.
EXTREME = frozenset(["normal x30", "normal x1000", "mixed scales"])

_NO_RANGE = "no range is declared that holds such magnitudes"
_NO_PADDING = (
    "the manifest does not say that input {!r} is masked so "
    '(padding = "any" or "left"; "right" where it never is)'
)

#: What is varied and how, the most revealing first.
_STEPS: tuple[dict[Family, str], ...] = (
    {"free": "negative", "within": "low end"},
    {"free": "normal x3", "within": "ends alternating"},
    {"free": "normal x1000"},
    {"free": "nan", "within": "nan"},
    {"free": "infinity", "within": "infinity"},
    {"mask": "all false", "binary": "all false"},
    {"mask": "one row false", "binary": "one row false"},
    {"mask": "right padding", "binary": "right padding"},
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
    {"free": "one-hot", "within": "spikes"},
    {"free": "constant rows"},
    {"mask": "left padding", "binary": "left padding"},
    {"mask": "single true", "binary": "single true"},
    {"mask": "alternating", "binary": "alternating"},
    {"integers": "sorted"},
    {"integers": "middle"},
    {"integers": "arange"},
    {"free": "nan row", "within": "nan row"},
    {"free": "positive"},
    {"free": "uniform", "within": "uniform"},
    {"integers": "uniform"},
    {"mask": "all true", "binary": "all true"},
)

#: Kinds that are the same along every axis. The others mean nothing along an axis of size 1.
_ANY_SIZE = frozenset(
    {
        "negative",
        "positive",
        "normal x3",
        "normal x30",
        "normal x1000",
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
                arrays[name] = filled(kind, rng, reference.model.inputs[name], arrays[name])
        kinds = set(self.kinds.values())
        extreme = not EXTREME.isdisjoint(kinds)
        odd_mask = "" if extreme else self._odd_mask(reference)
        return Case(
            self.name,
            arrays,
            lenient=_NO_RANGE if extreme else odd_mask,
            probe=True,
            ordinary=kinds <= {ORDINARY, "all true"},
            odd_mask=bool(odd_mask),
        )

    def _odd_mask(self, reference: Reference) -> str:
        """What the manifest does not say of a mask; empty where it is as declared."""
        inputs = reference.model.inputs
        beyond = (name for name, kind in self.kinds.items() if masks.beyond(kind, inputs[name]))
        return next((_NO_PADDING.format(name) for name in beyond), "")


def probes(reference: Reference) -> list[Probe]:
    """All probes of a model, the most revealing first.

    Sizes that nobody declared come first, then kinds of values; those take turns at the sizes,
    starting with small ones that the model was not exported with.
    """
    model = reference.model
    families = {name: family_of(entry) for name, entry in model.inputs.items()}
    rest = resting(reference)
    between = [sizes for sizes in _between(model) if fits(reference.shapes.values(), sizes)]
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
            prefix = f"{family} " if family in ("mask", "binary", "integers") else ""
            label = prefix + step[family]
            turn = next(either) if _ANY_SIZE.issuperset(varied.values()) else long
            planned.append((label, next(turn), {**rest, **varied}))
    planned += [(label, next(long), {**rest, **quiet}) for label, quiet in _alone(model, families)]
    return [
        Probe(
            "/".join([f"probe:{label}", *(f"{dim}={size}" for dim, size in sizes.items())]),
            sizes,
            kinds,
            model.draws + index,  # examples the declared cases leave out
        )
        for index, (label, sizes, kinds) in enumerate(planned)
    ]


def resting(reference: Reference) -> dict[str, str]:
    """The kind of every input that a probe does not vary."""
    families = {name: family_of(entry) for name, entry in reference.model.inputs.items()}
    return {
        name: "all true" if family in ("mask", "binary") else ORDINARY
        for name, family in families.items()
    }


def _alone(model: Model, families: Mapping[str, Family]) -> Iterator[tuple[str, dict[str, str]]]:
    """Of several floats each beside quiet others: what the model weighs against one another."""
    quiet: dict[Family, str] = {"free": "normal x0.001", "within": "tiny"}
    floats = {
        name: kind
        for name, family in families.items()
        if (kind := quiet.get(family)) and _applies(kind, model.inputs[name])
    }
    for loud in floats if len(floats) > 1 else ():
        yield f"only {loud}", {name: kind for name, kind in floats.items() if name != loud}


def _applies(kind: str, entry: Input) -> bool:
    if entry.fill == "mask":
        return masks.applies(kind, entry)
    if kind in NONFINITE:
        return entry.nonfinite
    if kind == "tiny":
        assert entry.range is not None
        return entry.range[0] <= 0 <= entry.range[1]
    return True


# sizes


def element_count(shapes: Iterable[Shape], dims: Mapping[str, int]) -> int:
    """How many elements arrays of these shapes have in all, with symbolic dims at these sizes."""
    return sum(math.prod(shape_at(shape, dims)) for shape in shapes)


def _between(model: Model) -> list[dict[str, int]]:
    """Combinations with sizes that nobody declared, at most two.

    Every dim has its odd one in one of them and its even one in the other. Neighbours differ:
    equal sizes hide swapped axes.
    """
    dims = model.dims
    new = {dim: _undeclared(values, model.sizes[dim]) for dim, values in dims.items()}
    found: list[dict[str, int]] = []
    for turn in range(2 if any(new.values()) else 0):
        sizes = {}
        for index, (dim, values) in enumerate(dims.items()):
            choice = new[dim] or values
            sizes[dim] = choice[(turn + index) % len(choice)]
        if sizes not in found:
            found.append(sizes)
    return found


def _undeclared(values: tuple[int, ...], sizes: range) -> tuple[int, ...]:
    """The smallest odd and even size strictly between the declared ones and not among them."""
    between = sizes[1:-1]
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
    both are the same iterator. A size of 0 takes no turn: what is empty is of no kind.
    """
    model = reference.model
    exported = example_dims(model)

    def ones(sizes: Mapping[str, int]) -> int:
        return sum(size == 1 < max(model.dims[dim]) for dim, size in sizes.items())

    found = [*between, *(sizes for sizes in dim_values(model.dims) if sizes not in between)]
    found = [sizes for sizes in found if all(sizes.values())] or found
    shapes = reference.shapes.values()
    found.sort(key=lambda it: (it == exported, ones(it), element_count(shapes, it)))
    short = [sizes for sizes in found if ones(sizes)]
    long = [sizes for sizes in found if not ones(sizes)]
    rest = itertools.cycle(long or short)
    return itertools.cycle(short) if short and long else rest, rest
