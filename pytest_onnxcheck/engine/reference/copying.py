"""Copies of a module: every run and every export has its own, since calls may change a module."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.quiet import quiet
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import torch

__all__ = ["copied", "doubled"]

#: tables of a module that hold tensors and modules: those are copied
_HELD = ("_parameters", "_buffers", "_modules")


def copied(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """A deep copy of a module of the model of this name.

    Tensors that are computed from parameters and kept, as the old `torch.nn.utils.weight_norm`
    keeps its weight, are copied without their history. What Python cannot copy, such as a lock, an
    open file or an imported module, is shared with the copy.

    Raises:
        InputError: It cannot be copied all the same.
    """
    with _without_history():
        try:
            return copy.deepcopy(module)
        except Exception:
            shared = {id(value): value for value in _uncopied(module)}
        try:
            return copy.deepcopy(module, shared)
        except Exception as error:
            raise InputError(
                f"{name}: the module cannot be copied, and every run needs a copy of its own, "
                f"since calls may change a module: {type(error).__name__}: "
                f"{one_line(error)[:200]}. Make what cannot be copied in forward, or give its "
                "class a __deepcopy__"
            ) from error


def doubled(module: torch.nn.Module) -> torch.nn.Module:
    """A module made float64 in place."""
    with quiet():  # torch warns of a copied ScriptModule's parameters, which are no leaves
        return module.double()


@contextlib.contextmanager
def _without_history() -> Iterator[None]:
    """Inside, tensors that PyTorch refuses to copy since they are computed are detached."""
    import torch
    from torch.overrides import TorchFunctionMode

    class Detach(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is not torch.Tensor.__deepcopy__ or args[0].is_leaf:
                return func(*args, **(kwargs or {}))
            tensor, memo = args
            memo[id(tensor)] = tensor.detach().clone()
            return memo[id(tensor)]

    with Detach():
        yield


def _uncopied(module: torch.nn.Module) -> Iterator[object]:
    """What cannot be copied among the attributes of a module and of those inside, and in dicts."""
    children = {id(child): child for child in module.modules()}
    for child in module.modules():
        for name, value in vars(child).items():
            if name in _HELD:
                continue
            for entry in value.values() if isinstance(value, dict) else [value]:
                try:
                    copy.deepcopy(entry, dict(children))  # of a hook, not its module
                except Exception:
                    yield entry
