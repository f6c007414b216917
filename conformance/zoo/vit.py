"""Small vision transformer."""

from __future__ import annotations

import torch
from torch import nn

from conformance.zoo._init import init_linear
from conformance.zoo._transformer import EncoderBlock


class VisionTransformer(nn.Module):
    """Pre-norm vision transformer with a class token.

    Args:
        num_classes: Number of logits.
        image_size: Height and width of the images.
        patch: Height and width of a patch.
        dim: Width of the tokens.
        depth: Number of encoder blocks.
        heads: Number of attention heads.
    """

    def __init__(
        self, num_classes: int, image_size: int, patch: int, dim: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, dim, patch, stride=patch)
        self.class_token = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(0.5 * torch.randn(1, (image_size // patch) ** 2 + 1, dim))
        self.blocks = nn.ModuleList(EncoderBlock(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Classify images.

        Args:
            image: ``[batch, 3, image_size, image_size]``, float32.

        Returns:
            Logits ``[batch, num_classes]``, float32.
        """
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        class_token = self.class_token.expand(image.shape[0], -1, -1)
        x = torch.cat([class_token, tokens], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)[:, 0])


def vit_tiny(
    num_classes: int = 10,
    image_size: int = 64,
    patch: int = 8,
    dim: int = 128,
    depth: int = 4,
    heads: int = 4,
) -> nn.Module:
    """Build the transformer with random weights.

    Args:
        num_classes: Number of logits.
        image_size: Height and width of the images.
        patch: Height and width of a patch.
        dim: Width of the tokens.
        depth: Number of encoder blocks.
        heads: Number of attention heads.

    Returns:
        Eval-mode model: ``image`` ``[batch, 3, image_size, image_size]`` float32 (standard
        normal) to logits ``[batch, num_classes]`` float32.
    """
    model = VisionTransformer(num_classes, image_size, patch, dim, depth, heads)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            init_linear(layer)
    return model.eval()
