"""Dims that the manifest tells apart and an artefact does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from pytest_onnxcheck.engine.oracle.dependence import runs_at_other_sizes
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest.sizes import ANY, dims_in, names_in, size_or_none
from pytest_onnxcheck.measurement import Axis, MergedDims, StructureMeasurement

__all__ = ["merged_dims"]


def merged_dims(reference: Reference, measured: StructureMeasurement) -> tuple[MergedDims, ...]:
    """Dims of one symbol in the artefact, unless PyTorch has them equal at every size.

    How a symbol is spelled does not matter. A dim that only outputs have may be equal to another
    one by what the model does: PyTorch, which is run only where dims share a symbol, says. An
    expression is held to be a dim of its own, and two of them may be two spellings of one.

    Args:
        reference: The PyTorch model.
        measured: Inputs and outputs of the artefact, and as the manifest declares them.
    """
    pairs = list(_pairs(measured))
    if not pairs:
        return ()
    runs = _Runs.of(reference)
    declared = reference.model.dims
    shapes = [reference.shapes[name] for name in reference.model.inputs]
    fed = dims_in(shapes, declared)
    merged = []
    for symbol, dims, axes in pairs:
        sizes = runs.apart(dims, axes, fed)
        if sizes is not None or fed.issuperset(dims):
            refused = any(_sizes_differ(dims, tried) for tried in runs.refused)
            merged.append(MergedDims(symbol, dims, axes, sizes, refused))
    return tuple(merged)


def _pairs(
    measured: StructureMeasurement,
) -> Iterator[tuple[str, tuple[str, str], tuple[Axis, Axis]]]:
    """Of each symbol that stands for several dims: the first with each other, where they are."""
    by_symbol: dict[str, dict[str, Axis]] = {}
    for axis, dim, symbol in _axes(measured):
        by_symbol.setdefault(symbol, {}).setdefault(dim, axis)
    for symbol, held in by_symbol.items():
        (first, place), *others = held.items()
        for dim, axis in others:
            yield symbol, (first, dim), (place, axis)


def _axes(measured: StructureMeasurement) -> Iterator[tuple[Axis, str, str]]:
    """Axes that are dynamic for both, with the manifest's dim and the artefact's symbol."""
    kinds = {
        "input": (measured.expected_inputs, measured.inputs),
        "output": (measured.expected_outputs, measured.outputs),
    }
    for kind, (expected, found) in kinds.items():
        shapes = {spec.name: spec.shape or () for spec in found}
        for spec in expected:
            wanted, shape = spec.shape or (), shapes.get(spec.name, ())
            if len(wanted) == len(shape):  # another rank is a fault of its own
                for index, (dim, symbol) in enumerate(zip(wanted, shape, strict=True)):
                    if not isinstance(dim, str) or dim == ANY:
                        continue
                    if isinstance(symbol, str) and symbol:
                        yield Axis(kind, spec.name, index), dim, symbol


@dataclass(frozen=True)
class _Runs:
    """Runs of PyTorch: dims with the outputs' shapes, and dims that it refused."""

    accepted: list[tuple[dict[str, int], dict[str, tuple[int, ...]]]]
    refused: list[dict[str, int]]

    @classmethod
    def of(cls, reference: Reference) -> _Runs:
        runs = cls([], [])
        for dims, _, outputs in runs_at_other_sizes(reference):
            if outputs is None:
                runs.refused.append(dims)
            else:
                shapes = {name: array.shape for name, array in outputs.items()}
                runs.accepted.append((dims, shapes))
        return runs

    def apart(
        self, dims: tuple[str, str], axes: tuple[Axis, Axis], fed: AbstractSet[str]
    ) -> tuple[int, int] | None:
        """Sizes at which two dims differ: as fed, or, of a dim that only outputs have, as given."""
        for tried, shapes in self.accepted:
            one, other = (
                size_or_none(dim, tried)
                if fed >= set(names_in(dim, tried))
                else dict(enumerate(shapes[axis.name])).get(axis.axis)
                for dim, axis in zip(dims, axes, strict=True)
            )
            if one is not None and other is not None and one != other:
                return one, other
        return None


def _sizes_differ(dims: tuple[str, str], tried: Mapping[str, int]) -> bool:
    one, other = (size_or_none(dim, tried) for dim in dims)
    return one != other
