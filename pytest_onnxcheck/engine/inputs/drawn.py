"""Inputs of a file of which nothing but its own interface is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.measurement import TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = ["OPEN_SIZES", "drawn"]

#: sizes of dims that a file leaves open, in the order in which they are worth a try
OPEN_SIZES = (2, 16, 64, 1)


def drawn(specs: Sequence[TensorSpec], size: int) -> list[Array] | None:
    """An array for each input: seeded normal floats, integers 0 and 1.

    Args:
        specs: The inputs.
        size: The size of every dim that the file leaves open.

    Returns:
        None where an input is of a type that nobody can draw.
    """
    import numpy as np

    draw = np.random.default_rng(0)
    arrays: list[Array] = []
    for spec in specs:
        shape = [dim if isinstance(dim, int) else size for dim in spec.shape or ()]
        try:
            dtype = np.dtype(spec.dtype)
        except TypeError:
            return None
        if dtype.kind == "f":
            arrays.append(draw.standard_normal(shape).astype(dtype))
        elif dtype.kind in "iub":
            arrays.append(draw.integers(0, 2, shape).astype(dtype))
        else:
            return None
    return arrays
