"""Training loop and file writing shared by the training scripts."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

CONFORMANCE = Path(__file__).resolve().parent.parent
CHECKPOINTS = CONFORMANCE / "checkpoints"


def fit(
    model: nn.Module,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    epochs: int,
    learning_rate: float,
    batch_size: int = 64,
) -> None:
    """Train a classifier with AdamW and a one-cycle schedule; it is left in eval mode.

    Args:
        model: Maps ``[batch, ...]`` float32 to logits ``[batch, num_classes]``.
        images: Inputs ``[n, ...]``, float32.
        labels: Classes ``[n]``, int64.
        epochs: Passes over the data.
        learning_rate: Peak learning rate.
        batch_size: Examples per step; a last smaller batch is dropped.
    """
    inputs, targets = torch.from_numpy(images), torch.from_numpy(labels)
    steps = len(inputs) // batch_size
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, learning_rate, total_steps=epochs * steps
    )
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(inputs))
        for batch in order[: steps * batch_size].split(batch_size):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimiser.step()
            schedule.step()
    model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, images: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of correct predictions.

    Args:
        model: Eval-mode classifier.
        images: Inputs ``[n, ...]``, float32.
        labels: Classes ``[n]``, int64.
    """
    logits = torch.cat([model(batch) for batch in torch.from_numpy(images).split(256)])
    return (logits.argmax(dim=1) == torch.from_numpy(labels)).double().mean().item()


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old content or the new one, never a part of it.

    Args:
        path: Destination; its folder is created.
        content: Bytes to write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise
