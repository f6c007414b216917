"""What a module takes and returns: nested tensors flattened, and arrays as tensors and back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.structures import leaves
from pytest_onnxcheck.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch

    Arrays = Mapping[str, np.ndarray[Any, Any]]

__all__ = ["arrays_of", "flatten", "flattens", "output_paths", "tensors_of"]


def flatten(value: Any) -> tuple[torch.Tensor, ...]:
    """The tensors of nested tuples, lists, dicts, dataclasses, caches; None is left out.

    Raises:
        InputError: Something else is in it.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return (value,)
    return tuple(
        entry if isinstance(entry, torch.Tensor) else torch.tensor(entry)
        for _, entry in _leaves(value)
    )


def output_paths(value: Any) -> list[str]:
    """Where the tensors of `flatten` stand in what `forward` returned, e.g. `hidden.0`."""
    return [path or "0" for path, _ in _leaves(value)]


def flattens(value: Any) -> bool:
    """Whether both exporters take apart what `forward` returned, in the order of `flatten`."""
    import torch
    from torch.utils import _pytree

    if type(value) in (tuple, list) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        return all(map(flattens, value))
    if type(value) in (dict, OrderedDict) or (
        isinstance(value, Mapping) and type(value) in _pytree.SUPPORTED_NODES
    ):
        return all(isinstance(key, str) and flattens(entry) for key, entry in value.items())
    return value is None or isinstance(value, torch.Tensor | bool | int | float)


def tensors_of(arrays: Arrays) -> dict[str, torch.Tensor]:
    """Copies of arrays as tensors, by name."""
    import torch

    return {name: torch.tensor(array) for name, array in arrays.items()}


def arrays_of(outputs: Iterable[torch.Tensor]) -> list[np.ndarray[Any, Any]]:
    """Tensors as arrays; bfloat16, which numpy lacks, as float32."""
    import torch

    floats = [o.float() if o.dtype is torch.bfloat16 else o for o in outputs]
    return [output.detach().cpu().numpy() for output in floats]


def _leaves(value: Any) -> list[tuple[str, Any]]:
    try:
        return list(leaves(value))
    except TypeError as error:
        raise InputError(str(error)) from error
