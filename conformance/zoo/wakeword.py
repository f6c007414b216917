"""Wake-word detector: a narrow ResNet-18 on log-mel spectrograms."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from conformance.zoo.resnet import ResNet18Base


class WakewordResNet18(ResNet18Base):
    """ResNet-18 on log-mel spectrograms."""

    def forward(self, mel: torch.Tensor) -> torch.Tensor:
        """Map ``mel`` ``[batch, 1, n_mels, frames]`` to logits ``[batch, num_classes]``."""
        return self.classify(mel)


def frame_count(config: dict[str, Any]) -> int:
    """Return the number of spectrogram frames of one clip."""
    return int(config["sample_rate"] * config["duration_s"]) // int(config["hop_length"]) + 1


def input_shapes(config: dict[str, Any]) -> dict[str, list[str | int]]:
    """Derive the input shapes from a checkpoint's config.

    Args:
        config: Keys ``sample_rate``, ``duration_s``, ``hop_length`` and ``n_mels``.

    Returns:
        Shape of each input by name; a string is a dynamic dimension.
    """
    return {"mel": ["batch", 1, config["n_mels"], frame_count(config)]}


def resnet18(config: dict[str, Any]) -> nn.Module:
    """Build the detector that a checkpoint's config describes, to be loaded with its weights.

    Args:
        config: Keys ``num_classes``, ``base_width`` and ``dropout``.

    Returns:
        Eval-mode model: ``mel`` ``[batch, 1, n_mels, frames]`` float32 (normalised to zero mean
        and unit variance per clip) to logits ``[batch, num_classes]`` float32.
    """
    return WakewordResNet18(
        in_channels=1,
        num_classes=config["num_classes"],
        base_width=config["base_width"],
        dropout=config["dropout"],
    ).eval()
