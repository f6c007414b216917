"""What a module takes and returns: nested tensors flattened, and arrays as tensors and back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import torch

    Arrays = Mapping[str, np.ndarray[Any, Any]]

__all__ = ["arrays_of", "flatten", "output_paths", "tensors_of"]


def flatten(value: Any) -> tuple[torch.Tensor, ...]:
    """The tensors of a nested tuple, list, dict or dataclass, in order; None is left out.

    Raises:
        InputError: Something else is in it.
    """
    import torch

    return tuple(
        entry if isinstance(entry, torch.Tensor) else torch.tensor(entry)
        for _, entry in _leaves(value, "")
    )


def output_paths(value: Any) -> list[str]:
    """Where the tensors of `flatten` stand in what `forward` returned, e.g. `hidden.0`."""
    return [path or "0" for path, _ in _leaves(value, "")]


def tensors_of(arrays: Arrays) -> dict[str, torch.Tensor]:
    """Copies of arrays as tensors, by name."""
    import torch

    return {name: torch.tensor(array) for name, array in arrays.items()}


def arrays_of(outputs: Iterable[torch.Tensor]) -> list[np.ndarray[Any, Any]]:
    """Tensors as arrays; bfloat16, which numpy lacks, as float32."""
    import torch

    floats = [o.float() if o.dtype is torch.bfloat16 else o for o in outputs]
    return [output.detach().cpu().numpy() for output in floats]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    import torch

    def inside(key: object) -> str:
        return f"{path}.{key}" if path else str(key)

    if value is None:
        return
    if isinstance(value, torch.Tensor | bool | int | float):
        yield path, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _leaves(entry, inside(key))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        names = getattr(value, "_fields", range(len(value)))
        for key, entry in zip(names, value, strict=True):
            yield from _leaves(entry, inside(key))
    elif hasattr(value, "__dataclass_fields__"):
        for key in value.__dataclass_fields__:
            yield from _leaves(getattr(value, key), inside(key))
    else:
        raise InputError(f"forward returned a {type(value).__name__}, which holds no tensors")
