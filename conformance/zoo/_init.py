"""Initialisation helpers shared by the zoo."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def normal_batches(shape: tuple[int, ...], count: int = 2, seed: int = 0) -> list[torch.Tensor]:
    """Draw standard normal batches without touching the global random number generator.

    Args:
        shape: Shape of one batch, batch dimension included.
        count: Number of batches.
        seed: Seed of the local generator.

    Returns:
        ``count`` float32 tensors of the given shape.
    """
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator) for _ in range(count)]


@torch.no_grad()
def calibrate_batchnorm(module: nn.Module, *batches: torch.Tensor) -> None:
    """Replace the running statistics of every batch norm by those of the given batches.

    Only the batch norms run in train mode, so dropout stays off and draws no random numbers.
    The statistics are plain averages over the batches. The module is left in eval mode.

    Args:
        module: Model that takes one tensor.
        *batches: Inputs of the model, float32, one forward pass each.
    """
    norms = [m for m in module.modules() if isinstance(m, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    module.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in batches:
        module(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    module.eval()


@torch.no_grad()
def init_linear(layer: nn.Linear, gain: float = 1.0) -> None:
    """Initialise a linear layer so that unit-variance inputs give outputs of std ``gain``.

    Args:
        layer: Layer to initialise; weight ``[out, in]`` and bias ``[out]``, if any, float32.
        gain: Standard deviation of the outputs for unit-variance inputs.
    """
    nn.init.normal_(layer.weight, std=gain * layer.in_features**-0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
