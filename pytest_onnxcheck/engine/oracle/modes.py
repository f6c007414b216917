"""What the instruments have in common that look at every operator PyTorch calls."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["compiler_loaded", "each_operator", "elements", "uncompiled"]


@contextlib.contextmanager
def each_operator(run: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]) -> Iterator[None]:
    """Inside, `run(func, args, kwargs)` stands for every call of an operator.

    What is compiled runs as it was written, and a higher-order operator such as `torch.cond` is
    seen by the operators of its branches.
    """
    from torch import Tensor
    from torch._ops import HigherOrderOperator
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
        supports_higher_order_operators = True

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # or its first call imports torch._dynamo, which takes a second

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if isinstance(func, HigherOrderOperator):
                return func(*map(self._branch, args), **(kwargs or {}))
            return run(func, args, kwargs or {})

        def _branch(self, argument: Any) -> Any:
            if isinstance(argument, Tensor) or not callable(argument):
                return argument

            def inside(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return argument(*args, **kwargs)

            return inside

    with uncompiled(), Mode():  # type: ignore[no-untyped-call]
        yield


def elements(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor, or what a nested or sparse one holds; written into, it changes."""
    import torch

    if tensor.layout is torch.sparse_coo:
        return tensor._values()
    if tensor.is_nested or tensor.layout is not torch.strided:
        held: torch.Tensor = tensor.values()
        return held
    return tensor


@contextlib.contextmanager
def uncompiled() -> Iterator[None]:
    """Inside, what torch.compile made runs as it was written, if the compiler is loaded."""
    import torch

    if compiler_loaded():
        with torch.compiler.set_stance("force_eager"):
            yield
        return
    try:
        yield
    except Exception:
        if compiler_loaded():
            torch._dynamo.reset()  # what it compiled inside a mode makes plain calls fail
        raise


def compiler_loaded() -> bool:
    """Whether PyTorch's compiler is loaded: that takes a second, and is left to who needs it."""
    return "torch._dynamo" in sys.modules
