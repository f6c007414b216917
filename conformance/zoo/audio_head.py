"""Classifier head on a sequence of audio embeddings."""

from __future__ import annotations

import torch
from torch import nn

from conformance.zoo._init import calibrate_batchnorm, init_linear, normal_batches


class TemporalBlock(nn.Module):
    """Convolution over time with batch norm, GELU and a projected residual connection.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Odd number of frames that the convolution spans.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False
        )
        self.norm = nn.BatchNorm1d(out_channels)
        self.project = nn.Conv1d(in_channels, out_channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, in_channels, time]`` to ``[batch, out_channels, time]``."""
        return nn.functional.gelu(self.norm(self.conv(x))) + self.project(x)


class SqueezeExcitation(nn.Module):
    """Channel gates computed from the average over time.

    Args:
        channels: Channels of the input.
        reduction: Factor by which the bottleneck is narrower.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, channels // reduction)
        self.excite = nn.Linear(channels // reduction, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale ``[batch, channels, time]`` by gates in (0, 1), one per channel."""
        gates = torch.sigmoid(self.excite(nn.functional.relu(self.squeeze(x.mean(dim=2)))))
        return x * gates.unsqueeze(2)


class AttentionPooling(nn.Module):
    """Average over time with softmax weights computed from the frames themselves.

    Args:
        channels: Channels of the input.
        hidden: Width of the scoring network.
    """

    def __init__(self, channels: int, hidden: int = 64) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, channels, time]`` to ``[batch, channels]``."""
        frames = x.transpose(1, 2)
        weights = torch.softmax(self.score(torch.tanh(self.hidden(frames))), dim=1)
        return (weights * frames).sum(dim=1)


class AudioClassifierHead(nn.Module):
    """Temporal block, squeeze-and-excitation, attention pooling and a 256-128-n perceptron.

    Args:
        num_classes: Number of logits.
        in_features: Width of the embeddings.
        dropout: Dropout probability inside the perceptron.
    """

    def __init__(self, num_classes: int, in_features: int = 128, dropout: float = 0.3) -> None:
        super().__init__()
        self.temporal = TemporalBlock(in_features, 256)
        self.excitation = SqueezeExcitation(256)
        self.pooling = AttentionPooling(256)
        self.classifier = nn.Sequential(
            nn.Linear(256, 128), nn.GELU(), nn.Dropout(dropout), nn.Linear(128, num_classes)
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Map ``features`` ``[batch, 1024, 128]`` to logits ``[batch, num_classes]``, float32."""
        x = self.excitation(self.temporal(features.transpose(1, 2)))
        return self.classifier(self.pooling(x))


def audio_classifier_head(num_classes: int = 2) -> nn.Module:
    """Build the head with random weights and calibrated batch norm statistics.

    The hidden linear layers, and the attention scores above all, get a large gain, so that the
    pooling singles out few of the 1024 frames and the logits differ from clip to clip.

    Args:
        num_classes: Number of logits.

    Returns:
        Eval-mode model: ``features`` ``[batch, 1024, 128]`` float32 (standard normal) to logits
        ``[batch, num_classes]`` float32.
    """
    model = AudioClassifierHead(num_classes)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            init_linear(layer, gain=2.5)
    init_linear(model.pooling.score, gain=6.0)
    init_linear(model.classifier[-1])
    calibrate_batchnorm(model, *normal_batches((4, 1024, 128)))
    return model
