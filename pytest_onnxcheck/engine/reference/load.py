"""Builds the PyTorch reference of a model: factory, then checkpoint, then eval mode."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.checkpoint import Checkpoint, load_checkpoint
from pytest_onnxcheck.engine.reference.imports import import_object, user_frames
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.reference.weights import load_state
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.manifest import Model

if TYPE_CHECKING:
    import torch

__all__ = ["load_reference", "seed_of"]


def load_reference(model: Model) -> Reference:
    """Builds the reference of a model: factory, then checkpoint, then eval mode.

    Raises:
        CheckpointError: Something is missing or does not fit; the text says what.
    """
    import torch

    checkpoint = load_checkpoint(model.checkpoint, trust=model.trust) if model.checkpoint else None
    config = checkpoint.at(model.config_key) if checkpoint and model.config_key else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(model))
        module, notes = _build(model, checkpoint, config)
    if any(child.training for child in module.modules()):
        notes.append(
            f"{model.factory or model.checkpoint} gives the model in train mode; it was put into "
            "eval mode here, and whatever exports it for release must do so too (model.eval())"
        )
        _put_into_eval_mode(module)
    reference = Reference(
        model=model,
        module=module,
        shapes=_shapes(model, config),
        config=config,
        notes=tuple(notes),
        checkpoint_sha256=file_sha256(model.checkpoint) if model.checkpoint else None,
    )
    # refuses inputs that forward does not take
    reference.notes += reference.signature.notes()
    return reference


def seed_of(model: Model) -> int:
    """The seed of torch's random numbers while the factory runs: a hash of seed and name."""
    digest = hashlib.sha256(f"{model.seed}/{model.name}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def _build(
    model: Model, checkpoint: Checkpoint | None, config: Any
) -> tuple[torch.nn.Module, list[str]]:
    """The module with its weights, and what should be told of them."""
    import torch

    if model.factory is None:
        if checkpoint is None or checkpoint.module is None:
            raise CheckpointError(
                f"{model.checkpoint}: holds weights but no model: set factory = 'module:callable'"
            )
        return checkpoint.module, []
    arguments = dict(model.kwargs)
    if model.config_key is not None:
        arguments["config"] = config
    factory = import_object(model.factory, model.root)
    try:
        module = factory(**arguments)
    except Exception as error:
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        raise CheckpointError(
            f"{model.factory}({given}) failed: {type(error).__name__}: {error}\n"
            f"{user_frames(error)}"
        ) from error
    if not isinstance(module, torch.nn.Module):
        raise CheckpointError(
            f"{model.factory} returned a {type(module).__name__}, not a torch.nn.Module"
        )
    if checkpoint is not None:
        if checkpoint.module is not None:
            raise CheckpointError(
                f"{checkpoint.path}: holds a whole model; drop factory = {model.factory!r}"
            )
        state = checkpoint.state_dict(model.state_dict)
        return module, list(load_state(module, state, checkpoint.path, model.prefix))
    return module, []


def _put_into_eval_mode(module: torch.nn.Module) -> None:
    try:
        module.eval()
    except NotImplementedError:  # torch.export programs are fixed in the mode they were made in
        for child in module.modules():
            child.training = False


def _shapes(model: Model, config: Any) -> dict[str, tuple[int | str, ...]]:
    computed: Mapping[str, Sequence[int | str]] = {}
    if model.shapes is not None:
        function = import_object(model.shapes, model.root)
        try:
            computed = function(config)
        except Exception as error:
            raise CheckpointError(
                f"{model.shapes}(config) failed: {type(error).__name__}: {error}"
            ) from error
    shapes: dict[str, tuple[int | str, ...]] = {}
    for name, entry in model.inputs.items():
        shape = entry.shape if entry.shape is not None else computed.get(name)
        if shape is None:
            raise CheckpointError(
                f"{model.shapes} gives no shape for input {name!r}; it gives {list(computed)}"
            )
        unknown = [dim for dim in shape if isinstance(dim, str) and dim not in model.dims]
        if unknown:
            raise CheckpointError(f"input {name!r}: symbolic dims {unknown} are not in dims")
        shapes[name] = tuple(shape)
    return shapes
