"""The PyTorch reference of a model: its module, how it is called, and what it is made of."""

from __future__ import annotations

import difflib
import hashlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.copying import copied
from pytest_onnxcheck.engine.reference.imports import sources, user_frames
from pytest_onnxcheck.engine.reference.tensors import arrays_of, flatten, output_paths
from pytest_onnxcheck.errors import CheckpointError, InputError
from pytest_onnxcheck.manifest import Model

if TYPE_CHECKING:
    import numpy as np
    import torch

    Arrays = Mapping[str, np.ndarray[Any, Any]]

__all__ = ["Reference"]

#: attributes of a module that decide what it computes and stand in no repr
_PLAIN = (bool, int, float, str, tuple)


@dataclass
class Reference:
    """The PyTorch model that an artefact must agree with.

    Attributes:
        model: The manifest's model.
        module: The module in eval mode. Never run it directly: runs may change its state.
        shapes: Input name -> shape, with symbolic dims as strings.
        config: The checkpoint's own config, if the manifest names one.
        notes: What the user should be told although it is no failure.
        checkpoint_sha256: Hash of the checkpoint's files, if there are any.
        checkpoint_bytes: Their size.
        prefix: Under which the weights are in the checkpoint; None where names needed none.
    """

    model: Model
    module: torch.nn.Module
    shapes: dict[str, tuple[int | str, ...]]
    config: Any = None
    notes: tuple[str, ...] = ()
    checkpoint_sha256: str | None = None
    checkpoint_bytes: int | None = None
    prefix: str | None = None

    def copy(self) -> torch.nn.Module:
        """A copy of the module, to run or to export.

        Raises:
            InputError: It cannot be copied.
        """
        return copied(self.module, self.model.name)

    def call(
        self, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Calls a module with inputs by name and flattens what it returns."""
        args, kwargs = self.arguments(inputs)
        return flatten(module(*args, **kwargs))

    def arguments(self, inputs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of `forward`: by position, or by name where `forward` has all the names."""
        if self.by_keyword:
            return (), dict(inputs)
        return tuple(inputs.values()), {}

    @cached_property
    def by_keyword(self) -> bool:
        """Whether inputs are passed by name: `forward` has them all, but not in this order."""
        parameters = self._parameters
        names = list(self.model.inputs)
        positional = [
            name
            for name, parameter in parameters.items()
            if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        ]
        return positional[: len(names)] != names and set(names) <= set(parameters)

    def check_arguments(self) -> None:
        """Refuses names of which some are `forward`'s, and would be passed as others of its.

        Raises:
            CheckpointError: The text says which, and what may have been meant.
        """
        names, parameters = list(self.model.inputs), list(self._parameters)
        moved = [
            (name, taken)
            for name, taken in zip(names, parameters, strict=False)
            if name != taken and name in parameters
        ]
        unknown = [name for name in names if name not in parameters]
        if self.by_keyword or not moved or not unknown:
            return
        close = difflib.get_close_matches(unknown[0], [p for p in parameters if p not in names], 1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        name, taken = moved[0]
        raise CheckpointError(
            f"{self.model.name}: input {name!r} would be passed as {taken!r}: inputs are passed by "
            f"position unless forward has all their names, and it has no {unknown[0]!r}{hint}"
        )

    def dynamic_shapes(self, hint: Any = None) -> Any:
        """Symbolic dims by axis, as torch.export takes them: by name, or in `forward`'s order.

        Those of all inputs that `*args` takes are one tuple.

        Args:
            hint: Stands for every dim; by default its own name does.
        """
        dims: dict[str, Any] = {
            name: {axis: hint or dim for axis, dim in enumerate(shape) if isinstance(dim, str)}
            for name, shape in self.shapes.items()
        }
        if self.by_keyword:
            return dims
        kinds = [parameter.kind for parameter in self._parameters.values()]
        listed = tuple(dims.values())
        if inspect.Parameter.VAR_POSITIONAL not in kinds[: len(listed)]:
            return listed
        named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
        return (*listed[:named], listed[named:])

    @cached_property
    def _parameters(self) -> Mapping[str, inspect.Parameter]:
        """The parameters of `forward`, as far as Python knows them."""
        try:
            return inspect.signature(self.module.forward).parameters
        except (TypeError, ValueError):
            return {}

    def run(
        self,
        inputs: Arrays | Mapping[str, torch.Tensor],
        module: torch.nn.Module | None = None,
    ) -> list[np.ndarray[Any, Any]]:
        """Runs the reference.

        Args:
            inputs: Arrays by input name, which are copied, or tensors, which are used.
            module: The copy of the module to run; by default a fresh one.

        Returns:
            The flattened outputs as arrays, in order.

        Raises:
            InputError: The model does not take these inputs, or returns other outputs than
                declared.
        """
        import torch

        module = self.copy() if module is None else module
        tensors = {
            name: value if isinstance(value, torch.Tensor) else torch.tensor(value)
            for name, value in inputs.items()
        }
        try:
            # not inference mode: it hides in-place changes and keeps composite operators whole
            with torch.no_grad():
                args, kwargs = self.arguments(tensors)
                returned = module(*args, **kwargs)
                outputs = flatten(returned)
        except Exception as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
            raise InputError(
                f"{self.model.name}: PyTorch itself does not run on {shapes}: "
                f"{type(error).__name__}: {error}\n{user_frames(error)}"
            ) from error
        self._check_outputs(output_paths(returned))
        return arrays_of(outputs)

    def _check_outputs(self, paths: list[str]) -> None:
        declared = list(self.model.outputs)
        if len(paths) != len(declared):
            raise InputError(
                f"{self.model.name}: PyTorch returns {len(paths)} tensors ({', '.join(paths)}), "
                f"the manifest declares {len(declared)} outputs: {', '.join(declared)}"
            )
        if paths != declared and sorted(paths) == sorted(declared):
            raise InputError(
                f"{self.model.name}: forward returns {', '.join(paths)} in this order, the "
                f"manifest declares {', '.join(declared)}: outputs are matched by position, so "
                "these would be swapped; declare them in forward's order"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides what is exported: weights, structure and code."""
        digest = hashlib.sha256()
        for name, tensor in sorted(_tensors(self.module).items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
        digest.update(repr(self.module).encode())
        for child in self.module.modules():
            plain = {k: v for k, v in vars(child).items() if isinstance(v, _PLAIN)}
            digest.update(repr(sorted(plain.items())).encode())
        digest.update(repr((self.model.factory, sorted(self.model.kwargs.items()))).encode())
        digest.update(repr((self.config, self.checkpoint_sha256)).encode())
        for path in sorted(sources(self.module, self.model.factory)):
            digest.update(path.read_bytes())
        return digest.hexdigest()


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    # buffers that are not persistent are missing from the state_dict, yet exported
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _bytes(tensor: torch.Tensor) -> bytes:
    import torch

    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
