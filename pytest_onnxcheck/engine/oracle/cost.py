"""What a run of a model costs, counted rather than timed, so that it is the same on every run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.oracle.modes import each_operator, elements

if TYPE_CHECKING:
    import torch

__all__ = ["Cost", "counted"]

#: A slow core: seconds per call of an operator, per element it writes, per multiplication.
_CALL, _ELEMENT, _MULTIPLICATION = 1e-5, 2.5e-8, 1e-10

#: operator -> which argument holds the factors summed over in every element it writes
_FACTORS = {"mm": 0, "bmm": 0, "matmul": 0, "linear": 0, "addmm": 1, "baddbmm": 1}
_KERNELS = frozenset(["convolution", "conv1d", "conv2d", "conv3d"])

#: what these give holds whatever lay in memory, and says nothing of the model
_UNFILLED = frozenset(
    ["empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "resize_"]
)


@dataclass
class Cost:
    """What was counted so far.

    Attributes:
        seconds: Nominal seconds.
        largest: The largest finite magnitude that an operator gave.
        smallest: Of the largest magnitude in each operator's result, the smallest that is not
            zero.
    """

    seconds: float = 0.0
    largest: float = 0.0
    smallest: float = math.inf

    def add(self, name: str, args: tuple[Any, ...], elements: int) -> None:
        """Adds one call of an operator that writes so many elements."""
        summed = 0.0
        if name in _KERNELS:
            summed = args[1].numel() / args[1].shape[0]
        elif name in _FACTORS:
            summed = args[_FACTORS[name]].size(-1)
        self.seconds += _CALL + elements * (_ELEMENT + summed * _MULTIPLICATION)


@contextlib.contextmanager
def counted() -> Iterator[Cost]:
    """Counts what the operators do that PyTorch runs inside."""
    import torch

    cost = Cost()

    def count(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        outputs = func(*args, **kwargs)
        if not func.is_view:
            several = outputs if isinstance(outputs, tuple | list) else (outputs,)
            tensors = [elements(entry) for entry in several if isinstance(entry, torch.Tensor)]
            name = func._schema.name.partition("::")[2]
            cost.add(name, args, sum(tensor.numel() for tensor in tensors))
            magnitudes = [] if name in _UNFILLED else [*map(_largest, tensors)]
            cost.largest = max([cost.largest, *magnitudes])
            cost.smallest = min([cost.smallest, *(size for size in magnitudes if size)])
        return outputs

    with each_operator(count):
        yield cost


def _largest(tensor: torch.Tensor) -> float:
    if not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    return float(tensor.abs().nan_to_num(0.0, 0.0, 0.0).max())
