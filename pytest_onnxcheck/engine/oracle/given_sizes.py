"""Sizes that PyTorch gives its outputs, where the manifest or the artefact says another."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from pytest_onnxcheck.engine.oracle.dependence import (
    Run,
    runs_at_other_sizes,
    runs_at_sizes_of,
)
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest.sizes import ANY, dims_in, names_in, size_or_none
from pytest_onnxcheck.measurement import (
    Axis,
    SizeMismatch,
    StructureMeasurement,
    TensorSpec,
)

__all__ = ["declared_sizes", "size_mismatches"]

#: runs of PyTorch that are looked at whatever is said, and more to find what a size follows from
_RUNS = 3
_MOST_RUNS = 16

#: sizes of a dim that an expression is held to, beside those declared: all remainders of 8
_BETWEEN = 8
#: what makes an expression that is right at some sizes wrong at those between
_ROUNDS = re.compile(r"/|\b(?:ceil|floor|min|max)\b")

#: the largest number that a size is tried to be a multiple of, or a part
_LARGEST_FACTOR = 64

#: dims as fed, and an output's shape by its name
_Run = tuple[Mapping[str, int], Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True)
class _Claim:
    """What is said of an axis of an output.

    Attributes:
        axis: The axis.
        declared: What the manifest says: an expression, a dim that only outputs have, or `any`.
        fixed: The size that the artefact has there; None where the manifest is looked at.
    """

    axis: Axis
    declared: str
    fixed: int | None = None


def size_mismatches(
    reference: Reference, measured: StructureMeasurement
) -> tuple[SizeMismatch, ...]:
    """Axes of outputs of which PyTorch's size is not what is said of it.

    PyTorch is run only where an output has an expression, a dim that no input has, or a fixed size
    in the artefact where none is declared.

    Args:
        reference: The PyTorch model.
        measured: Inputs and outputs of the artefact, and as the manifest declares them.
    """
    dims = reference.model.dims
    fed = dims_in(reference.shapes.values(), dims)
    claims = list(_claims(measured, fed, dims))
    if not claims:
        return ()
    more = _accepted(runs_at_other_sizes(reference))
    at_sizes = _accepted(runs_at_sizes_of(reference, _sizes_to_see(claims, reference, fed)))
    runs = list(itertools.islice(more, _RUNS))
    runs += [run for run in itertools.islice(at_sizes, _MOST_RUNS) if run not in runs]
    runs.sort(key=lambda run: _between(reference, run[0]))  # what is listed weighs more
    found = [(claim, odd) for claim in claims if (odd := _odd(claim, runs, reference)) is not None]
    if any(claim.fixed is None for claim, _ in found):
        runs += itertools.islice(more, _MOST_RUNS)
    return tuple(
        SizeMismatch(
            claim.axis,
            claim.declared,
            _wanted(claim, tried, fed),
            size,
            {dim: held for dim, held in tried.items() if dim in fed},
            claim.fixed,
            None if claim.fixed is not None else _formula(_sizes(claim.axis, runs), sorted(fed)),
            _between(reference, tried),
        )
        for claim, (tried, size) in found
    )


def declared_sizes(
    spec: TensorSpec, shapes: Mapping[str, tuple[int | str | None, ...]]
) -> tuple[int | str | None, ...]:
    """The shape the manifest declares of an output: as many `any` as it has, where it is none.

    Args:
        spec: The output as it is declared.
        shapes: The shapes of the artefact's outputs by name.
    """
    return (ANY,) * len(shapes.get(spec.name, ())) if spec.shape is None else spec.shape


def _claims(
    measured: StructureMeasurement, fed: Collection[str], dims: Collection[str]
) -> Iterator[_Claim]:
    shapes = {spec.name: spec.shape or () for spec in measured.outputs}
    for spec in measured.expected_outputs:
        held = shapes.get(spec.name, ())
        declared = declared_sizes(spec, shapes)
        for index, size in enumerate(declared):
            axis = Axis("output", spec.name, index)
            if size == ANY and len(held) == len(declared):
                fixed = held[index]
                if isinstance(fixed, int):
                    yield _Claim(axis, ANY, fixed)
            elif isinstance(size, str) and size != ANY and size not in fed:
                names = names_in(size, dims)
                if size in dims or set(names) <= set(fed):
                    yield _Claim(axis, size)


def _sizes_to_see(
    claims: list[_Claim], reference: Reference, fed: Collection[str]
) -> dict[str, list[int]]:
    """By dim: the sizes at which what expressions say is looked at.

    Those declared; where one rounds or bounds, the least of the sizes between as well.
    """
    model = reference.model
    found: dict[str, list[int]] = {}
    for claim in claims:
        if claim.fixed is not None or claim.declared in model.dims:
            continue
        for dim in sorted(set(names_in(claim.declared, model.dims)) & set(fed)):
            between = model.sizes[dim][:_BETWEEN] if _ROUNDS.search(claim.declared) else ()
            seen = found.get(dim, [])
            found[dim] = list(dict.fromkeys([*seen, *model.dims[dim], *between]))
    return found


def _between(reference: Reference, tried: Mapping[str, int]) -> bool:
    """Whether a size is none of those that `dims` lists; a range means all in it."""
    model = reference.model
    return any(size not in model.dims[d] and d not in model.spans for d, size in tried.items())


def _accepted(runs: Iterator[Run]) -> Iterator[_Run]:
    for tried, _, outputs in runs:
        if outputs is not None:
            yield tried, {name: array.shape for name, array in outputs.items()}


def _sizes(axis: Axis, runs: list[_Run]) -> list[tuple[Mapping[str, int], int]]:
    """The dims of each run, and the size that the axis has there."""
    return [
        (tried, shapes[axis.name][axis.axis])
        for tried, shapes in runs
        if axis.axis < len(shapes[axis.name])
    ]


def _odd(
    claim: _Claim, runs: list[_Run], reference: Reference
) -> tuple[Mapping[str, int], int] | None:
    """The first run in which PyTorch's size is another than is said."""
    model = reference.model
    for tried, size in _sizes(claim.axis, runs):
        if claim.fixed is not None:
            fits = size == claim.fixed
        elif claim.declared in model.dims:
            fits = size in model.sizes[claim.declared]
        else:
            fits = size == size_or_none(claim.declared, tried)
        if not fits:
            return tried, size
    return None


def _wanted(claim: _Claim, tried: Mapping[str, int], fed: Collection[str]) -> int | None:
    """What an expression gives; None of a dim that no input has, and of `any`."""
    known = {dim: size for dim, size in tried.items() if dim in fed}
    return None if claim.declared == ANY else size_or_none(claim.declared, known)


def _formula(sizes: list[tuple[Mapping[str, int], int]], fed: list[str]) -> str | None:
    """The simplest expression that gives an axis its size in all runs; None where none does."""
    if len({size for _, size in sizes}) < 2:
        return None
    return next(
        (
            text
            for text in _expressions(sizes[0], fed)
            if all(size_or_none(text, tried) == size for tried, size in sizes)
        ),
        None,
    )


def _expressions(first: tuple[Mapping[str, int], int], fed: list[str]) -> Iterator[str]:
    """Expressions of one or two dims, the simplest first; constants follow from one run."""
    tried, size = first
    dims = [dim for dim in fed if dim in tried]
    yield from dims
    for one, other in itertools.combinations(dims, 2):
        yield f"{one} + {other}"
    for dim in dims:
        apart = size - tried[dim]
        yield f"{dim} + {apart}" if apart > 0 else f"{dim} - {-apart}"
    for dim in dims:
        for factor in range(2, _LARGEST_FACTOR + 1):
            yield f"{factor} * {dim}"
            yield f"{dim} // {factor}"
            yield f"ceil({dim} / {factor})"
    for one, other in itertools.combinations(dims, 2):
        yield f"{one} * {other}"
    for one, other in itertools.permutations(dims, 2):
        yield f"{one} - {other}"
