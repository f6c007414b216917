"""MobileNetV3-Small."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from conformance.zoo._init import calibrate_batchnorm, init_linear, normal_batches


class BlockSpec(NamedTuple):
    """Row of the MobileNetV3 table."""

    kernel: int
    expanded: int
    out_channels: int
    excite: bool
    hardswish: bool
    stride: int


BLOCKS = (
    BlockSpec(3, 16, 16, True, False, 2),
    BlockSpec(3, 72, 24, False, False, 2),
    BlockSpec(3, 88, 24, False, False, 1),
    BlockSpec(5, 96, 40, True, True, 2),
    BlockSpec(5, 240, 40, True, True, 1),
    BlockSpec(5, 240, 40, True, True, 1),
    BlockSpec(5, 120, 48, True, True, 1),
    BlockSpec(5, 144, 48, True, True, 1),
    BlockSpec(5, 288, 96, True, True, 2),
    BlockSpec(5, 576, 96, True, True, 1),
    BlockSpec(5, 576, 96, True, True, 1),
)


def conv_bn(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """Return a "same" convolution without bias and its batch norm."""
    padding = kernel // 2
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
    ]


class SqueezeExcitation(nn.Module):
    """Channel gates computed from the average over the image.

    Args:
        channels: Channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = max(8, channels // 4)
        self.gates = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, squeezed, 1),
            nn.ReLU(),
            nn.Conv2d(squeezed, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale ``[batch, channels, height, width]`` by gates in [0, 1], one per channel."""
        return x * self.gates(x)


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, optional excitation and linear projection.

    Args:
        in_channels: Channels of the input.
        spec: Layout of the block.
    """

    def __init__(self, in_channels: int, spec: BlockSpec) -> None:
        super().__init__()
        activation = nn.Hardswish if spec.hardswish else nn.ReLU
        layers: list[nn.Module] = []
        if spec.expanded != in_channels:
            layers += [*conv_bn(in_channels, spec.expanded, 1), activation()]
        layers += conv_bn(
            spec.expanded, spec.expanded, spec.kernel, spec.stride, groups=spec.expanded
        )
        layers.append(activation())
        if spec.excite:
            layers.append(SqueezeExcitation(spec.expanded))
        layers += conv_bn(spec.expanded, spec.out_channels, 1)
        self.layers = nn.Sequential(*layers)
        self.residual = spec.stride == 1 and in_channels == spec.out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, in, h, w]`` to ``[batch, out, h/stride, w/stride]``."""
        y = self.layers(x)
        return x + y if self.residual else y


class MobileNetV3Small(nn.Module):
    """MobileNetV3-Small.

    Args:
        num_classes: Number of logits.
        dropout: Dropout probability before the last layer.
    """

    def __init__(self, num_classes: int, dropout: float = 0.2) -> None:
        super().__init__()
        layers: list[nn.Module] = [*conv_bn(3, 16, 3, stride=2), nn.Hardswish()]
        channels = 16
        for spec in BLOCKS:
            layers.append(InvertedResidual(channels, spec))
            channels = spec.out_channels
        layers += [*conv_bn(channels, 576, 1), nn.Hardswish()]
        self.features = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.hidden = nn.Linear(576, 1024)
        self.activation = nn.Hardswish()
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1024, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map ``image`` ``[batch, 3, size, size]`` to logits ``[batch, num_classes]``, float32."""
        x = self.pool(self.features(image)).flatten(1)
        x = self.dropout(self.activation(self.hidden(x)))
        return self.classifier(x)


def mobilenet_v3_small(num_classes: int = 1000, image_size: int = 128) -> nn.Module:
    """Build the network with random weights and calibrated batch norm statistics.

    Args:
        num_classes: Number of logits.
        image_size: Height and width of the images that the batch norms are calibrated for.

    Returns:
        Eval-mode model: ``image`` ``[batch, 3, image_size, image_size]`` float32 (standard
        normal) to logits ``[batch, num_classes]`` float32.
    """
    model = MobileNetV3Small(num_classes)
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    init_linear(model.hidden, gain=3.0)
    init_linear(model.classifier, gain=0.5)
    calibrate_batchnorm(model, *normal_batches((32, 3, image_size, image_size)))
    return model
