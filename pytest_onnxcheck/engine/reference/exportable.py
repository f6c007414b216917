"""What is given to an exporter: the module itself, or one that takes and returns flat tensors."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.reference.tensors import flattens

if TYPE_CHECKING:
    import numpy as np
    import torch

__all__ = ["Exportable", "exportable", "jit_traced"]

#: tables of a module that hold its parameters, buffers and layers
_TABLES = ("_parameters", "_buffers", "_modules", "_non_persistent_buffers_set")


@dataclass(frozen=True)
class Exportable:
    """How a reference is exported.

    Attributes:
        reference: The reference.
        flat: Whether exporters get a module that takes the inputs by position, in the manifest's
            order, and returns the outputs as a tuple: the call is not that by itself, or `forward`
            returns what they do not take apart.
    """

    reference: Reference
    flat: bool

    def module(
        self, module: torch.nn.Module, tensors: Mapping[str, torch.Tensor]
    ) -> torch.nn.Module:
        """What to export in place of a copy of the reference's module.

        Args:
            module: The copy.
            tensors: By input name; what is in TorchScript is traced with them.
        """
        import torch

        if not self.flat:
            return module
        made = _flat(module, self.reference.call, self._names)
        if isinstance(module, torch.jit.ScriptModule):
            # the exporter's own tracer refuses one inside another module
            made = jit_traced(made, self.arguments(tensors))
        return made

    def arguments(self, tensors: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """The arguments for tensors by input name; there are no others."""
        return tuple(tensors[name] for name in self._names)

    @property
    def _names(self) -> list[str]:
        return list(self.reference.model.inputs)

    def dynamic_shapes(self, hint: Any = None) -> tuple[Any, ...]:
        """Symbolic dims by axis, as torch.export takes them: those that `*args` takes in a tuple.

        Args:
            hint: Stands for every dim; by default its own name does.
        """
        listed: tuple[Any, ...] = tuple(
            {axis: hint or dim for axis, dim in enumerate(shape) if isinstance(dim, str)}
            for shape in self.reference.shapes.values()
        )
        if self.flat:
            return (listed,)
        signature = self.reference.signature
        starred = inspect.Parameter.VAR_POSITIONAL
        if not any(parameter.kind is starred for parameter in signature.parameters.values()):
            return listed
        named = signature.named
        return (*listed[:named], listed[named:]) if len(listed) > named else listed


def exportable(reference: Reference, inputs: Mapping[str, np.ndarray[Any, Any]]) -> Exportable:
    """How a reference is exported; it is run on the inputs.

    Raises:
        InputError: It does not run on them, or returns other outputs than declared.
    """
    returned = reference.returned(inputs)
    plain = reference.signature.plain and reference.paths is None and flattens(returned)
    return Exportable(reference, flat=not plain)


def jit_traced(
    module: torch.nn.Module, arguments: tuple[torch.Tensor, ...], *, strict: bool = True
) -> Any:
    """A module as TorchScript traces it, without what torch says of its own deprecation.

    What the tracer warns of gets through.
    """
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.trace(  # type: ignore[no-untyped-call]
            module, arguments, check_trace=False, strict=strict
        )


def _flat(module: torch.nn.Module, call: Callable[..., Any], names: list[str]) -> torch.nn.Module:
    """A module that calls another one.

    It has the tables of the other, and the name of its class, so that weights, layers and nodes
    are called in an artefact as without it.

    Args:
        module: The module; its hooks see the arguments that it takes by itself.
        call: Calls it with tensors by name.
        names: The names, in the order in which tensors are given.
    """
    import torch

    kind = type(module)
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}

    class Flat(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if isinstance(module, torch.jit.ScriptModule):
                self.module = module  # its tables are not Python's
            else:
                self.__dict__ |= {table: module.__dict__[table] for table in _TABLES}
                self.__dict__ |= {
                    name: value
                    for name, value in vars(module).items()
                    if isinstance(value, torch.Tensor)
                }
            self.training = module.training

        def forward(self, *tensors: Any) -> Any:
            return call(module, dict(zip(names, tensors, strict=True)))

    made: torch.nn.Module = type(kind.__name__, (Flat,), named)()
    return made
