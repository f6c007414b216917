"""The PyTorch reference of a model: its module, how it is called, and what it is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.copying import copied
from pytest_onnxcheck.engine.reference.imports import sources, user_frames
from pytest_onnxcheck.engine.reference.refusals import path_hint
from pytest_onnxcheck.engine.reference.signature import Signature, constant, signature_of
from pytest_onnxcheck.engine.reference.tensors import arrays_of, flatten, output_paths
from pytest_onnxcheck.errors import CheckpointError, InputError
from pytest_onnxcheck.files import contents_sha256, file_sha256
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.wording import closest

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

    @cached_property
    def signature(self) -> Signature:
        """How the module is called.

        Raises:
            CheckpointError: `forward` does not take the inputs, or it is not clear how.
        """
        return signature_of(self.model, self.module)

    def call(
        self, module: torch.nn.Module, inputs: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, ...]:
        """Calls a module with inputs by name and gives the outputs, in the manifest's order."""
        args, kwargs = self.signature.bind(inputs)
        return self.outputs_of(module(*args, **kwargs))

    def outputs_of(self, returned: Any) -> tuple[torch.Tensor, ...]:
        """The manifest's outputs in what `forward` returned: all that is there, or by path.

        Raises:
            InputError: Something else than tensors is in it, or not all outputs are.
        """
        tensors = flatten(returned)
        if self.paths is None:
            return tensors
        held = dict(zip(output_paths(returned), tensors, strict=True))
        self._check_outputs(list(held))
        return tuple(held[path] for path in self.paths)

    @property
    def paths(self) -> list[str] | None:
        """Where the outputs stand in what `forward` returns; None where they are all there is."""
        outputs = self.model.outputs
        if all(output.path is None for output in outputs.values()):
            return None
        return [output.path or name for name, output in outputs.items()]

    def _check_paths(self, wanted: list[str], held: list[str]) -> None:
        for name, path in zip(self.model.outputs, wanted, strict=True):
            if path not in held:
                close = closest(path, held)
                hint = f"did you mean {close!r}? " if close else ""
                raise InputError(
                    f"{self.model.name}: output {name!r}: forward returns nothing at {path!r} "
                    f"({hint}there are: {', '.join(held)})"
                )

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
            The outputs as arrays, in the manifest's order.

        Raises:
            InputError: The model does not take these inputs, or returns other outputs than
                declared.
        """
        return arrays_of(self.outputs_of(self.returned(inputs, module)))

    def returned(
        self,
        inputs: Arrays | Mapping[str, torch.Tensor],
        module: torch.nn.Module | None = None,
    ) -> Any:
        """What `forward` returns, as it is; see `run`."""
        import torch

        module = self.copy() if module is None else module
        tensors = {
            name: value if isinstance(value, torch.Tensor) else torch.tensor(value)
            for name, value in inputs.items()
        }
        try:
            # not inference mode: it hides in-place changes and keeps composite operators whole
            with torch.no_grad():
                args, kwargs = self.signature.bind(tensors)
                returned = module(*args, **kwargs)
                paths = output_paths(returned)
        except Exception as error:
            raise InputError(self._not_run(inputs, error)) from error
        self._check_outputs(paths)
        return returned

    def _not_run(self, inputs: Mapping[str, Any], error: Exception) -> str:
        refused = self.signature.refused()
        parameters = self.signature.parameters
        if refused:
            return f"{self.model.name}: {refused}{path_hint(self.model, parameters, refused)}"
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in inputs.items())
        return (
            f"{self.model.name}: PyTorch itself does not run on {shapes}: "
            f"{type(error).__name__}: {error}{self.scalars_hint()}"
            f"{path_hint(self.model, parameters, error) or self.signature.hint()}"
            f"{self._smallest_hint(inputs)}\n{user_frames(error)}"
        )

    def _smallest_hint(self, inputs: Mapping[str, Any]) -> str:
        """Which dims are at their smallest here, as where a pooling has nothing left to pool."""
        sizes = {
            dim: int(found)
            for name, array in inputs.items()
            for dim, found in zip(self.shapes.get(name, ()), array.shape, strict=False)
            if isinstance(dim, str)
        }
        smallest = [
            f"{dim} = {sizes[dim]}"
            for dim, span in self.model.sizes.items()
            if len(span) > 1 and sizes.get(dim) == span[0]
        ]
        if not smallest:
            return ""
        return f" ({' and '.join(smallest)} may be too small for it: begin higher in dims)"

    def scalars_hint(self) -> str:
        """What to write where inputs may be meant as numbers or flags; empty where none may."""
        single = {
            name: bool if self.model.inputs[name].dtype == "bool" else int
            for name, shape in self.shapes.items()
            if not shape
        }
        names: dict[str, type] = {**single, **self.signature.scalars}
        return f" (inputs are tensors; {constant(names)})" if names else ""

    def _check_outputs(self, paths: list[str]) -> None:
        if self.paths is not None:
            self._check_paths(self.paths, paths)
            return
        declared = list(self.model.outputs)
        if len(paths) != len(declared):
            raise InputError(
                f"{self.model.name}: PyTorch returns {len(paths)} tensors ({', '.join(paths)}), "
                f"the manifest declares {len(declared)} outputs: {', '.join(declared)}; give them "
                "the key `path` (where in what forward returns they stand) to leave others out"
            )
        if paths != declared and sorted(paths) == sorted(declared):
            raise InputError(
                f"{self.model.name}: forward returns {', '.join(paths)} in this order, the "
                f"manifest declares {', '.join(declared)}: outputs are matched by position, so "
                "these would be swapped; declare them in forward's order"
            )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that decides what is exported: weights, structure, code and `depends`.

        It is the same wherever the manifest's folder lies: checkouts find each other's artefacts.

        Raises:
            CheckpointError: A file of `depends` cannot be read.
        """
        digest = hashlib.sha256()

        def add(*parts: object) -> None:
            digest.update(repr(parts).replace(str(self.model.root), ".").encode())

        for name, tensor in sorted(_tensors(self.module).items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor).data)
        add(self.module)
        for child in self.module.modules():
            plain = {k: v for k, v in vars(child).items() if isinstance(v, _PLAIN)}
            add(sorted(plain.items()))
        add(self.model.factory, sorted(self.model.kwargs.items()))
        add(sorted(self.model.arguments.items()), sorted(self.model.containers.items()))
        add(self.config, self.checkpoint_sha256)
        add(contents_sha256(sources(self.module, self.model.factory)))
        try:
            add([(name, file_sha256(path)) for name, path in self.model.depended().items()])
        except OSError as error:
            raise CheckpointError(f"{self.model.name}: depends: {error}") from error
        return digest.hexdigest()


def _tensors(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    # buffers that are not persistent are missing from the state_dict, yet exported
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _bytes(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    import torch

    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
