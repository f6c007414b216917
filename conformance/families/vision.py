"""torchvision's models, of images ``[batch, 3, size, size]`` float32."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from torch import nn

from conformance.families._torchvision import make_torchvision_importable
from conformance.families._weights import calibrate, seed_weights

CLASSES = 10


def torchvision_models() -> ModuleType:
    """``torchvision.models``, whichever build of torch is there."""
    make_torchvision_importable()
    return importlib.import_module("torchvision.models")


def classifier(name: str, size: int = 64, gain: float = 1.0, **options: Any) -> nn.Module:
    """Build a function of ``torchvision.models`` as published, with ten classes.

    Args:
        name: Of the function.
        size: Height and width of the images that batch norms are calibrated with.
        gain: See :func:`conformance.families._weights.seed_weights`.
        **options: Given to the function.

    Returns:
        Eval-mode model, to logits ``[batch, 10]`` float32.
    """
    build = getattr(torchvision_models(), name)
    return ready(build(weights=None, num_classes=CLASSES, **options), size, gain)


def vision_transformer(size: int = 64, layers: int = 2) -> nn.Module:
    """Build ViT-B/16, which has twelve layers and images of 224x224, for smaller ones of both.

    Args:
        size: Height and width of the images.
        layers: Number of encoder blocks.

    Returns:
        Eval-mode model, to logits ``[batch, 10]`` float32.
    """
    build = torchvision_models().VisionTransformer
    model = build(
        image_size=size,
        patch_size=16,
        num_layers=layers,
        num_heads=12,
        hidden_dim=768,
        mlp_dim=3072,
        num_classes=CLASSES,
    )
    return ready(model, size)


def ready(model: nn.Module, size: int, gain: float = 1.0) -> nn.Module:
    """Seed the weights and calibrate the batch norms.

    Args:
        model: Changed in place.
        size: Height and width of the images.
        gain: See :func:`conformance.families._weights.seed_weights`.

    Returns:
        The model in eval mode.
    """
    seed_weights(model, gain)
    calibrate(model, size)
    return model.eval()
