"""Sizes: what a dim is swept over, beyond the sizes that cases have.

A fault may show at a few sizes only: where a window of a pooling starts in the padding, or where a
size that was traced meets another. A sweep moves one dim and leaves everything else as it is.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.inputs.probes import Probe, element_count, resting
from pytest_onnxcheck.manifest.sizes import dims_in, fits

if TYPE_CHECKING:
    from pytest_onnxcheck.engine.reference.reference import Reference

__all__ = ["PlannedSweep", "plan_sweeps", "sweep_names", "swept"]

#: seconds that a size takes however small it is
_OVERHEAD = 1e-3

#: what the sweeps of a model may take of its `probe_seconds`
_SHARE = 0.5

#: sizes that are looked at, of the smallest and of those that are spread
_MOST = 5000

#: what a size costs, in float32 runs of PyTorch: one, and one of the artefact
_RUNS = 2


@dataclass(frozen=True)
class PlannedSweep:
    """The sizes one dim is run at.

    Attributes:
        dim: The symbolic dim.
        sizes: All sizes it may have.
        probes: Size -> how its inputs are made; as many as the budget allows, in the order they
            are run.
    """

    dim: str
    sizes: range
    probes: dict[int, Probe]


def plan_sweeps(reference: Reference, seconds: Callable[[int], float]) -> list[PlannedSweep]:
    """What to run, as far as the model's `probe_seconds` go, in the cost of operations.

    Dims share the time evenly, and what those of few sizes leave; those that no input has, and
    those whose sizes are all declared, are left out, and all dims where nothing is drawn. Where not
    all sizes can be run, half of the time goes to the smallest, which come to every remainder that
    strides leave, and half to sizes that are spread.

    Args:
        reference: Gives the inputs' shapes and the dims.
        seconds: What a run of PyTorch costs, by how many elements its inputs have.
    """
    model, shapes = reference.model, list(reference.shapes.values())
    ranges = swept(reference)
    beside = {dim: _beside(values) for dim, values in model.dims.items()}

    def cost(dim: str, size: int) -> float:
        dims = {**beside, dim: size}
        elements = element_count(shapes, dims) if fits(shapes, dims) else 0
        return _OVERHEAD + _RUNS * seconds(elements)

    found: dict[str, PlannedSweep] = {}
    left = model.probe_seconds * _SHARE
    for dim in sorted(ranges, key=lambda dim: len(ranges[dim])):
        chosen = _chosen(ranges[dim], partial(cost, dim), left / (len(ranges) - len(found)))
        left -= sum(chosen.values())
        probes = {size: _probe(reference, dim, {**beside, dim: size}) for size in chosen}
        found[dim] = PlannedSweep(dim, ranges[dim], probes)
    return [found[dim] for dim in ranges if found[dim].probes]


def swept(reference: Reference) -> dict[str, range]:
    """The dims that are swept, with all their sizes: those of an input, and not all declared.

    None where nothing is drawn.
    """
    model = reference.model
    if not model.draws:
        return {}
    held = dims_in(reference.shapes.values(), model.dims)
    return {
        dim: sizes
        for dim, sizes in model.sizes.items()
        if dim in held and any(size not in model.dims[dim] for size in sizes)
    }


def sweep_names(reference: Reference) -> Iterator[str]:
    """The names of all sizes there are, whether the time allows to run them or not."""
    beside = {dim: _beside(values) for dim, values in reference.model.dims.items()}
    for dim, sizes in swept(reference).items():
        for size in sizes:
            yield _name(dim, {**beside, dim: size})


def _name(dim: str, dims: dict[str, int]) -> str:
    others = [f"{name}={size}" for name, size in dims.items() if name != dim]
    return "/".join([f"sweep:{dim}={dims[dim]}", *others])


def _probe(reference: Reference, dim: str, dims: dict[str, int]) -> Probe:
    return Probe(_name(dim, dims), dims, resting(reference), reference.model.draws)


def _beside(values: tuple[int, ...]) -> int:
    """The size of a dim that stays: small, but not 0 or 1, which hide faults of other sizes."""
    return min((size for size in values if size > 1), default=max(values))


def _chosen(sizes: range, cost: Callable[[int], float], budget: float) -> dict[int, float]:
    """The sizes that a budget allows, with their costs, in the order they are run.

    The smallest take half of it, then some that are spread, then the smallest again what is left.
    """
    chosen: dict[int, float] = {}
    smallest = cost(sizes[0])

    def take(candidates: Iterable[int], until: float) -> None:
        spent = sum(chosen.values())
        for size in candidates:
            if spent + smallest > until:
                return
            price = cost(size)
            if size not in chosen and spent + price <= until:
                chosen[size] = price
                spent += price

    few = sizes[:_MOST]
    take(few, budget / 2)
    take(itertools.islice(_halving(sizes), _MOST), budget)
    take(few, budget)
    return chosen


def _halving(sizes: range) -> Iterator[int]:
    """All sizes: the ends, the middle, the middles of the halves, and so on."""
    yield sizes[0]
    if len(sizes) > 1:
        yield sizes[-1]
    parts = [sizes[1:-1]]
    while parts:
        for part in parts:
            if part:
                yield part[len(part) // 2]
        halves = ((part[: len(part) // 2], part[len(part) // 2 + 1 :]) for part in parts if part)
        parts = [half for pair in halves for half in pair]
