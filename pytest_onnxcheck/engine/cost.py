"""What a run of a model costs, counted rather than timed, so that it is the same on every run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Cost", "counted"]

#: A slow core: seconds per call of an operator, per element it writes, per multiplication.
_CALL, _ELEMENT, _MULTIPLICATION = 1e-5, 2.5e-8, 1e-10

#: operator -> which argument holds the factors summed over in every element it writes
_FACTORS = {"mm": 0, "bmm": 0, "addmm": 1, "baddbmm": 1, "convolution": 1}


@dataclass
class Cost:
    """What was counted so far, in nominal seconds."""

    seconds: float = 0.0

    def add(self, name: str, args: tuple[Any, ...], elements: int) -> None:
        """Adds one call of an operator that writes so many elements."""
        summed = 0.0
        if name in _FACTORS:
            factor = args[_FACTORS[name]]
            convolution = name == "convolution"
            summed = factor.numel() / factor.shape[0] if convolution else factor.shape[-1]
        self.seconds += _CALL + elements * (_ELEMENT + summed * _MULTIPLICATION)


@contextlib.contextmanager
def counted() -> Iterator[Cost]:
    """Counts the operators that PyTorch runs inside."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    cost = Cost()

    class Count(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            outputs = func(*args, **(kwargs or {}))
            if not func.is_view:
                several = outputs if isinstance(outputs, tuple | list) else (outputs,)
                tensors = [entry for entry in several if isinstance(entry, torch.Tensor)]
                name = func._schema.name.partition("::")[2]
                cost.add(name, args, sum(tensor.numel() for tensor in tensors))
            return outputs

    with Count():  # type: ignore[no-untyped-call]
        yield cost
