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

#: parameters of so many bytes are copied when they are written to: smaller ones cost nothing
_LARGE_BYTES = 1 << 20


def copied(module: torch.nn.Module, name: str) -> torch.nn.Module:
    """A deep copy of a module of the model of this name.

    Tensors that are computed from parameters and kept, as the old `torch.nn.utils.weight_norm`
    keeps its weight, are copied without their history. What Python cannot copy, such as a lock, an
    open file or an imported module, is shared with the copy. Large parameters share their memory
    until somebody writes to one of them.

    Raises:
        InputError: It cannot be copied all the same.
    """
    with _without_history():
        try:
            return copy.deepcopy(module, _copied_on_write(module))
        except Exception:
            shared = {id(value): value for value in _uncopied(module)}
        try:
            return copy.deepcopy(module, shared | _copied_on_write(module))
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


def _copied_on_write(module: torch.nn.Module) -> dict[int, object]:
    """Copies of the module's large parameters that take memory only when they are written to.

    What is no plain tensor that has its storage to itself is left to `deepcopy`.
    """
    import torch

    lazy_clone = getattr(torch, "_lazy_clone", None)  # private: may go away
    if lazy_clone is None:
        return {}
    copies: dict[int, object] = {}
    for parameter in module.parameters():
        plain = type(parameter) is torch.nn.Parameter and type(parameter.data) is torch.Tensor
        if (
            plain
            and parameter.layout is torch.strided
            and parameter.device.type == "cpu"
            and parameter.nbytes >= _LARGE_BYTES
            and parameter.untyped_storage().nbytes() == parameter.nbytes
        ):
            cloned = lazy_clone(parameter.detach())
            copies[id(parameter)] = torch.nn.Parameter(cloned, parameter.requires_grad)
    return copies


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
