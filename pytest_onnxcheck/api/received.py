"""A checkpoint that somebody sent: whether it holds tensors and plain values alone."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path

from pytest_onnxcheck.errors import CheckpointError

__all__ = ["Received", "examine"]


@dataclass(frozen=True)
class Received:
    """What a file is that runs no code when it is loaded.

    Attributes:
        format: `safetensors`, or `torch` for what `torch.load(weights_only=True)` reads.
        state_dicts: The keys that lead to names with tensors; an empty one is the whole file.
    """

    format: str
    state_dicts: tuple[str, ...]


def examine(path: Path) -> Received:
    """Reads a file of unknown origin as a checkpoint; no code in it is ever run.

    Reading it takes as much memory as it holds: call it in a process that has limits.

    Args:
        path: The file. Its suffix says nothing, and must not be `.pt2`, which runs code.

    Raises:
        CheckpointError: It is none, or would run code; the text says what to send instead.
    """
    from pytest_onnxcheck.engine.reference.checkpoint import load_checkpoint
    from pytest_onnxcheck.engine.reference.formats import is_safetensors, is_torchscript

    if path.suffix == ".pt2" or is_torchscript(path):
        raise CheckpointError(
            "refused: it is a program, of torch.jit or torch.export, which runs code: send "
            "`model.state_dict()`, written by safetensors or torch.save"
        )
    try:
        found = load_checkpoint(path, path.parent, trust=False)
    except CheckpointError as error:
        if not isinstance(error.__cause__, pickle.UnpicklingError):
            raise
        raise CheckpointError(
            "refused: it holds more than tensors and plain values, so that loading it could run "
            "code, or it is no checkpoint at all: send `model.state_dict()`, written by "
            "safetensors or torch.save"
        ) from error
    keys = found.state_dicts()
    if not keys:
        raise CheckpointError(
            "refused: it holds no names with tensors: send `model.state_dict()`, written by "
            "safetensors or torch.save"
        )
    kind = "safetensors" if is_safetensors(path) else "torch"
    return Received(kind, tuple(key or "" for key in keys))
