"""Builds the PyTorch reference of a model: factory, then checkpoint, then eval mode."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.reference.checkpoint import Checkpoint, load_checkpoint
from pytest_onnxcheck.engine.reference.imports import import_object, user_frames
from pytest_onnxcheck.engine.reference.pretrained import load_pretrained
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.reference.weights import Loaded, load_state
from pytest_onnxcheck.errors import CheckpointError
from pytest_onnxcheck.files import files_sha256
from pytest_onnxcheck.garbage import leave_out
from pytest_onnxcheck.manifest import Model
from pytest_onnxcheck.manifest.sizes import ANY, SizeError, dims_in

if TYPE_CHECKING:
    import torch

__all__ = ["load_reference", "seed_of"]


def load_reference(model: Model) -> Reference:
    """Builds the reference of a model: factory, then checkpoint, then eval mode.

    Raises:
        CheckpointError: Something is missing or does not fit; the text says what.
    """
    import torch

    leave_out("torch")
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(seed_of(model))
        built = _pretrained(model) if model.pretrained else _built(model)
    module, notes = built.module, [*built.notes]
    if any(child.training for child in module.modules()):
        origin = model.factory or model.checkpoint or model.pretrained
        notes.append(
            f"{origin} gives the model in train mode; it was put into eval mode here, "
            "and whatever exports it for release must do so too (model.eval())"
        )
        _put_into_eval_mode(module)
    reference = Reference(
        model=model,
        module=module,
        shapes=_shapes(model, built.config),
        config=built.config,
        notes=tuple(notes),
        checkpoint_sha256=files_sha256(built.files) if built.files else None,
        checkpoint_bytes=sum(f.stat().st_size for f in built.files) if built.files else None,
        prefix=built.prefix,
    )
    # refuses inputs that forward does not take
    reference.notes += reference.signature.notes()
    return reference


def seed_of(model: Model) -> int:
    """The seed of torch's random numbers while the factory runs: a hash of seed and name."""
    digest = hashlib.sha256(f"{model.seed}/{model.name}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Gives PyTorch one thread: weights that a QR makes orthogonal depend on the number."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Built:
    """A module with its weights, the config and the files it was made of, and what to tell."""

    module: torch.nn.Module
    config: Any = None
    files: tuple[Path, ...] = ()
    prefix: str | None = None
    notes: tuple[str, ...] = ()


def _pretrained(model: Model) -> _Built:
    """The module of a folder that `save_pretrained` wrote."""
    loaded = load_pretrained(model)
    return _Built(loaded.module, loaded.config, loaded.files, notes=loaded.notes)


def _built(model: Model) -> _Built:
    """The module of a factory, a checkpoint or both."""
    checkpoint = None
    if model.checkpoint is not None:
        checkpoint = load_checkpoint(model.checkpoint, model.root, trust=model.trust)
    config = checkpoint.at(model.config_key) if checkpoint and model.config_key else None
    module, loaded = _filled(model, checkpoint, config)
    files = checkpoint.files if checkpoint else ()
    return _Built(module, config, files, loaded.prefix, loaded.notes)


def _filled(
    model: Model, checkpoint: Checkpoint | None, config: Any
) -> tuple[torch.nn.Module, Loaded]:
    """The module with its weights, and how they were loaded."""
    import torch

    if model.factory is None:
        if checkpoint is None or checkpoint.module is None:
            raise CheckpointError(
                f"{model.checkpoint}: holds weights but no model: set factory = 'module:callable'"
            )
        return checkpoint.module, Loaded(None)
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
        tied = checkpoint.tied
        return module, load_state(module, state, checkpoint.path, model.prefix, tied=tied)
    return module, Loaded(None)


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
        try:
            unknown = sorted(dims_in([shape], model.dims) - set(model.dims))
        except SizeError as error:
            raise CheckpointError(f"input {name!r}: shape: {error}") from None
        if unknown or ANY in shape:
            raise CheckpointError(
                f"input {name!r}: symbolic dims {unknown or [ANY]} are not in dims"
            )
        shapes[name] = tuple(shape)
    return shapes
