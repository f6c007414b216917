"""Small BERT-style text classifier."""

from __future__ import annotations

import torch
from torch import nn

from conformance.zoo._init import init_linear
from conformance.zoo._transformer import EncoderBlock

MASKED_SCORE = -1e4
"""Attention bias of a masked token: zero weight after softmax, yet finite if all are masked."""


class BertEncoder(nn.Module):
    """Pre-norm transformer encoder with masked mean pooling.

    Args:
        vocab_size: Number of token ids.
        dim: Width of the tokens.
        layers: Number of encoder blocks.
        heads: Number of attention heads.
        max_len: Longest sequence.
        num_classes: Number of logits.
    """

    def __init__(
        self, vocab_size: int, dim: int, layers: int, heads: int, max_len: int, num_classes: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, dim)
        self.positions = nn.Embedding(max_len, dim)
        self.norm_in = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(EncoderBlock(dim, heads) for _ in range(layers))
        self.norm_out = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Classify sequences.

        Args:
            input_ids: ``[batch, time]``, int64 in [0, vocab_size); ``time`` up to ``max_len``.
            attention_mask: ``[batch, time]``, int64, 1 for a token and 0 for padding. A row of
                zeros is pooled to zeros and gives the bias of the last layer.

        Returns:
            Logits ``[batch, num_classes]``, float32.
        """
        mask = attention_mask.to(self.tokens.weight.dtype)
        bias = (MASKED_SCORE * (1.0 - mask))[:, None, None, :]
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        x = self.norm_in(self.tokens(input_ids) + self.positions(places))
        for block in self.blocks:
            x = block(x, bias)
        weights = mask.unsqueeze(-1)
        pooled = (self.norm_out(x) * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)
        return self.head(pooled)


def bert_encoder(
    vocab_size: int = 1000,
    dim: int = 96,
    layers: int = 2,
    heads: int = 4,
    max_len: int = 64,
    num_classes: int = 3,
) -> nn.Module:
    """Build the classifier with random weights.

    Args:
        vocab_size: Number of token ids.
        dim: Width of the tokens.
        layers: Number of encoder blocks.
        heads: Number of attention heads.
        max_len: Longest sequence.
        num_classes: Number of logits.

    Returns:
        Eval-mode model: ``input_ids`` ``[batch, time]`` int64 in [0, vocab_size) and
        ``attention_mask`` ``[batch, time]`` int64 in {0, 1} to logits ``[batch, num_classes]``
        float32.
    """
    model = BertEncoder(vocab_size, dim, layers, heads, max_len, num_classes)
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            init_linear(layer)
    init_linear(model.head, gain=2.0)
    return model.eval()
