"""Seeded random weights of the scale that training gives."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.utils.parametrize import ParametrizationList

from conformance.zoo._init import calibrate_batchnorm, normal_batches

LAYER_SCALES = ("layer_scale", "gamma")
"""Names of the factors of residual branches, which start at 1e-6 where training begins."""


@torch.no_grad()
def seed_weights(model: nn.Module, gain: float = 1.0) -> None:
    """Give every parameter a random value by what it is, from the global generator.

    Initial values are made for training: heads of zeros, branches scaled by 1e-6, norms that do
    nothing. A fault in any of them would be hard to see.

    Args:
        model: Changed in place. Weights get the standard deviation ``gain / sqrt(fan_in)``,
            embeddings that of 1 over the root of their width, norms 1 and 0.1 around it, biases
            0.1, factors of residual branches 0.3 and 10% around it, other parameters 0.1.
            Parametrized weights, as of ``weight_norm``, stay as they are.
        gain: Standard deviation of a layer's outputs for unit-variance inputs; the root of 2
            where rectifiers follow and no norms.
    """
    for module in model.modules():
        if isinstance(module, ParametrizationList):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if name.startswith(LAYER_SCALES):
                nn.init.normal_(parameter, mean=0.3, std=0.03)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
            elif name.endswith("weight") and parameter.ndim == 1:
                nn.init.normal_(parameter, mean=1.0, std=0.1)
            elif name.endswith("weight"):
                nn.init.normal_(parameter, std=gain * fan_in(module, parameter) ** -0.5)
            else:
                nn.init.normal_(parameter, std=0.1)


def fan_in(module: nn.Module, weight: torch.Tensor) -> int:
    """How many products each output sums up.

    Args:
        module: Owner of the weight: ``Conv1D`` of transformers keeps it as ``[in, out]``.
        weight: ``[out, in, ...]``.
    """
    if type(module).__name__ == "Conv1D":
        return weight.shape[0]
    return weight[0].numel()


def calibrate(model: nn.Module, size: int) -> None:
    """Give batch norms, if there are any, the statistics of sixteen standard normal images.

    Args:
        model: Takes ``[batch, 3, size, size]`` float32; changed in place.
        size: Height and width of the images.
    """
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        calibrate_batchnorm(model, *normal_batches((8, 3, size, size)))
