"""Localisation from radio channel responses with a ConvNeXt-style backbone."""

from __future__ import annotations

import torch
from torch import nn

from conformance.zoo._init import init_linear


class ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of ``[batch, channels, height, width]``."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise each pixel over its channels; the shape is kept."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7 convolution and pointwise perceptron with a scaled residual connection.

    Args:
        channels: Channels of the input and of the output.
        layer_scale: Initial scale of the residual branch.
    """

    def __init__(self, channels: int, layer_scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.expand = nn.Linear(channels, 4 * channels)
        self.project = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), layer_scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform ``[batch, channels, height, width]``; the shape is kept."""
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.scale * self.project(nn.functional.gelu(self.expand(y)))
        return x + y.permute(0, 3, 1, 2)


class LocalisationNet(nn.Module):
    """ConvNeXt-style regressor of a position and its uncertainty.

    Args:
        widths: Channels of each stage.
        depths: Blocks of each stage.
        layer_scale: Initial scale of the residual branches.
    """

    def __init__(
        self,
        widths: tuple[int, ...] = (48, 96, 192),
        depths: tuple[int, ...] = (2, 2, 4),
        layer_scale: float = 0.5,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, widths[0], (4, 2), (4, 2)), ChannelNorm(widths[0])]
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            if index > 0:
                previous = widths[index - 1]
                layers += [ChannelNorm(previous), nn.Conv2d(previous, width, 2, 2)]
            layers += [ConvNeXtBlock(width, layer_scale) for _ in range(depth)]
        self.backbone = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(widths[-1])
        self.position = nn.Linear(widths[-1], 2)
        self.uncertainty = nn.Linear(widths[-1], 2)

    def forward(self, channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Locate the transmitters.

        Args:
            channels: ``[batch, 3, 128, 32]``, float32.

        Returns:
            ``positions`` ``[batch, 2]`` and ``uncertainties`` ``[batch, 2]`` in [0.01, 1.0],
            both float32.
        """
        pooled = self.norm(self.backbone(channels).mean(dim=(2, 3)))
        uncertainties = 0.01 + 0.99 * torch.sigmoid(self.uncertainty(pooled))
        return self.position(pooled), uncertainties


def localisation_net() -> nn.Module:
    """Build the regressor with random weights.

    Returns:
        Eval-mode model: ``channels`` ``[batch, 3, 128, 32]`` float32 (standard normal) to
        ``positions`` ``[batch, 2]`` and ``uncertainties`` ``[batch, 2]``, both float32.
    """
    model = LocalisationNet()
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            init_linear(layer)
    init_linear(model.uncertainty, gain=2.0)
    return model.eval()
