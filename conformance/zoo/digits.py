"""Digit classifiers for scikit-learn's 8x8 digits."""

from __future__ import annotations

import torch
from torch import nn


class SimpleCNN(nn.Module):
    """Three convolutions with batch norm, then two linear layers.

    Args:
        num_classes: Number of logits.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, num_classes)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map ``image`` ``[batch, 1, 8, 8]`` to logits ``[batch, num_classes]``, float32."""
        return self.classifier(self.features(image))


class TinyNet(nn.Module):
    """Perceptron with one hidden layer.

    Args:
        hidden: Hidden units.
        num_classes: Number of logits.
    """

    def __init__(self, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, num_classes)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map ``image`` ``[batch, 1, 8, 8]`` to logits ``[batch, num_classes]``, float32."""
        return self.layers(image)


def simple_cnn(num_classes: int = 10) -> nn.Module:
    """Build the convolutional classifier, to be loaded with ``checkpoints/simple_cnn.pt``.

    Args:
        num_classes: Number of logits.

    Returns:
        Eval-mode model: ``image`` ``[batch, 1, 8, 8]`` float32 in [0, 1] to logits
        ``[batch, num_classes]`` float32.
    """
    return SimpleCNN(num_classes).eval()


def tiny_net(hidden: int = 32, num_classes: int = 10) -> nn.Module:
    """Build the perceptron, to be loaded with ``checkpoints/tiny_net.safetensors``.

    Args:
        hidden: Hidden units.
        num_classes: Number of logits.

    Returns:
        Eval-mode model: ``image`` ``[batch, 1, 8, 8]`` float32 in [0, 1] to logits
        ``[batch, num_classes]`` float32.
    """
    return TinyNet(hidden, num_classes).eval()
