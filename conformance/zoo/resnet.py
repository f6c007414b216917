"""ResNet-18, shared by the image classifier and the wake-word detector."""

from __future__ import annotations

import torch
from torch import nn

from conformance.zoo._init import calibrate_batchnorm, init_linear, normal_batches


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a residual connection.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the first convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map ``[batch, in_channels, h, w]`` to ``[batch, out_channels, h/stride, w/stride]``."""
        y = nn.functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return nn.functional.relu(y + self.downsample(x))


class ResNet18Base(nn.Module):
    """ResNet-18 without a ``forward``; subclasses name the input.

    Args:
        in_channels: Channels of the input.
        num_classes: Number of logits.
        base_width: Channels of the stem and of the first stage; each later stage doubles them.
        dropout: Dropout probability before the last layer.
    """

    def __init__(
        self, in_channels: int, num_classes: int, base_width: int = 64, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, base_width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(base_width)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        stages: list[nn.Module] = []
        channels = base_width
        for index in range(4):
            width = base_width * 2**index
            stages.append(
                nn.Sequential(
                    BasicBlock(channels, width, stride=1 if index == 0 else 2),
                    BasicBlock(width, width, stride=1),
                )
            )
            channels = width
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """Classify a batch.

        Args:
            x: ``[batch, in_channels, height, width]``, float32.

        Returns:
            Logits ``[batch, num_classes]``, float32.
        """
        x = self.maxpool(nn.functional.relu(self.bn1(self.conv1(x))))
        x = self.stages(x).mean(dim=(2, 3))
        return self.fc(self.dropout(x))


class ImageResNet18(ResNet18Base):
    """ResNet-18 on images."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Map ``image`` ``[batch, 3, 224, 224]`` to logits ``[batch, num_classes]``, float32."""
        return self.classify(image)


def resnet18(num_classes: int = 1000) -> nn.Module:
    """Build a ResNet-18 with random weights and calibrated batch norm statistics.

    Args:
        num_classes: Number of logits.

    Returns:
        Eval-mode model: ``image`` ``[batch, 3, 224, 224]`` float32 (standard normal) to logits
        ``[batch, num_classes]`` float32.
    """
    model = ImageResNet18(in_channels=3, num_classes=num_classes)
    init_linear(model.fc)
    calibrate_batchnorm(model, *normal_batches((4, 3, 224, 224)))
    return model
