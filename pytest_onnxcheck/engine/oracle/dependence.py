"""What PyTorch's outputs depend on, found out by running it on other values and other sizes."""

from __future__ import annotations

import bisect
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.inputs.cases import (
    dims_of,
    example,
    example_dims,
    fill_inputs,
    own_cases,
)
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.manifest.sizes import dim_values, dims_in

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["Run", "constant_outputs", "ignores", "runs_at_other_sizes", "runs_at_sizes_of"]

#: the dims, the inputs, and the outputs by name; None where PyTorch refuses the inputs
Run = tuple[dict[str, int], dict[str, "Array"], dict[str, "Array"] | None]

#: seeds the draws
_CASE = "structure"


def ignores(reference: Reference, name: str) -> bool:
    """Whether PyTorch's outputs stay the same, bit by bit, whether an input is zero or one."""
    import numpy as np

    inputs = example(reference)
    others = (np.zeros_like(inputs[name]), np.ones_like(inputs[name]))
    try:
        usual = reference.run(inputs)
        found = [reference.run({**inputs, name: other}) for other in others]
    except InputError:
        return False
    return all(all(map(np.array_equal, usual, outputs)) for outputs in found)


def constant_outputs(reference: Reference, names: Sequence[str]) -> tuple[str, ...]:
    """Those of some outputs that are the same in PyTorch, bit by bit, whatever it is fed with.

    It is fed with zeros, with ones, and with draws of every size that `runs_at_other_sizes` tries.
    """
    if not names:
        return ()
    try:
        usual = _named(reference, example(reference))
        others = list(_other_outputs(reference))
    except InputError:
        return ()
    return tuple(
        name for name in names if others and all(_same(usual[name], o[name]) for o in others)
    )


def runs_at_other_sizes(reference: Reference) -> Iterator[Run]:
    """Runs PyTorch on a draw for every combination of dims declared, and then some not declared.

    Sizes that an input's file does not have are left out. Where nothing is drawn, it runs on the
    user's own cases.
    """
    return _runs(reference, _inputs_of_sizes(reference))


def runs_at_sizes_of(reference: Reference, dims: Mapping[str, Sequence[int]]) -> Iterator[Run]:
    """Runs PyTorch on a draw for each of some sizes of some dims, the others as exported.

    Where nothing is drawn, it runs on the user's own cases.

    Args:
        reference: The PyTorch model.
        dims: Dims, each with the sizes to run at.
    """
    if not reference.model.draws:
        return runs_at_other_sizes(reference)
    exported = example_dims(reference.model)
    sizes = [{**exported, dim: size} for dim in dims for size in dims[dim]]
    return _runs(reference, _filled(reference, sizes))


def _runs(
    reference: Reference, fed: Iterator[tuple[dict[str, int], dict[str, Array]]]
) -> Iterator[Run]:
    for dims, inputs in fed:
        try:
            yield dims, inputs, _named(reference, inputs)
        except InputError:
            yield dims, inputs, None


def _inputs_of_sizes(reference: Reference) -> Iterator[tuple[dict[str, int], dict[str, Array]]]:
    if reference.model.draws:
        return _filled(reference, _sizes(reference))
    own = own_cases(reference.model)
    return ((dims_of(reference, case.inputs), case.inputs) for case in own)


def _filled(
    reference: Reference, sizes: Sequence[dict[str, int]]
) -> Iterator[tuple[dict[str, int], dict[str, Array]]]:
    for dims in sizes:
        with contextlib.suppress(InputError):
            yield dims, fill_inputs(reference, dims, _CASE, 0)


def _sizes(reference: Reference) -> list[dict[str, int]]:
    """The combinations declared; then each dim at larger sizes, the others as exported."""
    exported = example_dims(reference.model)
    fed = dims_in(reference.shapes.values(), reference.model.dims)
    larger = [
        {**exported, dim: other}
        for dim, size in exported.items()
        if dim in fed
        for other in _larger(reference.model, dim, size)
    ]
    declared = dim_values(reference.model.dims)
    return [*declared, *(sizes for sizes in larger if sizes not in declared)]


def _larger(model: Model, dim: str, size: int) -> list[int]:
    """The next size of a dim, and about twice the size: of a range, such as it holds."""
    if dim not in model.spans:
        return [size + 1, 2 * size]
    span = model.spans[dim]
    larger = span[bisect.bisect_right(span, size) :]
    twice = larger[bisect.bisect_left(larger, 2 * size) :]
    return list(dict.fromkeys([*larger[:1], *(twice[:1] or larger[-1:])]))


def _other_outputs(reference: Reference) -> Iterator[dict[str, Array]]:
    import numpy as np

    inputs = example(reference)
    for other in (np.zeros_like, np.ones_like):
        with contextlib.suppress(InputError):
            yield _named(reference, {name: other(array) for name, array in inputs.items()})
    for _, _, outputs in runs_at_other_sizes(reference):
        if outputs is not None:
            yield outputs


def _named(reference: Reference, inputs: Mapping[str, Array]) -> dict[str, Array]:
    return dict(zip(reference.model.outputs, reference.run(inputs), strict=True))


def _same(one: Array, other: Array) -> bool:
    return (
        one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
    )
