"""Files and callables of the user's are read: under one seed, and with errors that name them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from pytest_onnxcheck.engine.inputs.arrays import copied
from pytest_onnxcheck.engine.reference.imports import user_frames
from pytest_onnxcheck.errors import StageError
from pytest_onnxcheck.manifest import Model

__all__ = ["copied_batch", "reading", "running", "seeded"]


@contextlib.contextmanager
def seeded(model: Model) -> Iterator[None]:
    """Torch's random numbers follow the model's seed inside, and are as before after it."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        yield


@contextlib.contextmanager
def reading(kind: type[StageError], before: str, after: str = "") -> Iterator[None]:
    """Raises an error of finding or reading data as one that says which data, and what to do.

    Args:
        kind: The class of the error that is raised.
        before: What stands before the error's text: the model and the key of the manifest.
        after: What stands behind it.
    """
    try:
        yield
    except StageError as error:
        raise kind(f"{before}{error}{after}") from error


@contextlib.contextmanager
def running(kind: type[StageError], said: str) -> Iterator[None]:
    """Raises whatever the user's code raises inside as one error, with the user's frames.

    Args:
        kind: The class of the error that is raised.
        said: What failed, and what was expected of it.
    """
    try:
        yield
    except Exception as error:
        text = f"{said}: {type(error).__name__}: {error}\n{user_frames(error)}"
        raise kind(text.rstrip()) from error


def copied_batch(batch: Any) -> Any:
    """A dict of arrays and tensors with new arrays; what is no dict stays as it is."""
    if not isinstance(batch, Mapping):
        return batch
    return {name: copied(value) for name, value in batch.items()}
