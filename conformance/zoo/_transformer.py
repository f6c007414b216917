"""Transformer encoder block shared by the vision and the text models."""

from __future__ import annotations

import torch
from torch import nn


class EncoderBlock(nn.Module):
    """Pre-norm transformer encoder block.

    Args:
        dim: Width of the tokens, a multiple of ``heads``.
        heads: Number of attention heads.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.head_dim = dim // heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.attended = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.expand = nn.Linear(dim, 4 * dim)
        self.project = nn.Linear(4 * dim, dim)

    def forward(self, x: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Encode tokens.

        Args:
            x: Tokens ``[batch, time, dim]``, float32.
            bias: Added to the attention scores, broadcastable to ``[batch, heads, time, time]``,
                float32.

        Returns:
            Tokens ``[batch, time, dim]``, float32.
        """
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, self.head_dim))
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        x = x + self.attended(y.transpose(1, 2).flatten(2))
        return x + self.project(nn.functional.gelu(self.expand(self.norm2(x))))
