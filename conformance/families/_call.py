"""How the models of transformers are called."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class Called(nn.Module):
    """Calls a model by the names of its inputs and picks outputs from what it returns.

    Args:
        model: Returns an object with attributes.
        inputs: Names of the tensors, in the order they come in.
        outputs: Names of the tensors to return.
        **arguments: Given to every call beside the tensors.
    """

    def __init__(
        self, model: nn.Module, inputs: list[str], outputs: list[str], **arguments: Any
    ) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs
        self.outputs = outputs
        self.arguments = arguments

    def forward(self, *values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Call the model.

        Args:
            *values: One tensor per name in ``inputs``.

        Returns:
            One tensor per name in ``outputs``.
        """
        named = dict(zip(self.inputs, values, strict=True))
        found = self.model(**named, **self.arguments)
        return tuple(getattr(found, name) for name in self.outputs)


class Continued(nn.Module):
    """Goes on with a text whose keys and values are already known.

    Args:
        model: Decoder with a language model's head.
        layers: How many layers it has.
    """

    def __init__(self, model: nn.Module, layers: int) -> None:
        super().__init__()
        self.model = model
        self.layers = layers

    def forward(self, input_ids: torch.Tensor, *past: torch.Tensor) -> torch.Tensor:
        """Predict what follows each token.

        Args:
            input_ids: ``[batch, sequence]``, int64.
            *past: Keys and values, ``[batch, heads, past, width]`` float32: key and value of the
                first layer, then of the second, and so on.

        Returns:
            Logits ``[batch, sequence, vocabulary]``, float32.
        """
        from transformers import DynamicCache

        pairs = [(past[2 * layer], past[2 * layer + 1]) for layer in range(self.layers)]
        cache = DynamicCache(pairs)
        return self.model(input_ids=input_ids, cache=cache, use_cache=True).logits


class Decoder(nn.Module):
    """Calls the decoder of an encoder and a decoder.

    Args:
        model: Both, with a language model's head.
        *inputs: Names of further tensors that the model takes.
    """

    def __init__(self, model: nn.Module, *inputs: str) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs

    def forward(
        self, decoder_input_ids: torch.Tensor, encoder_hidden_states: torch.Tensor, *values: Any
    ) -> torch.Tensor:
        """Predict what follows each token.

        Args:
            decoder_input_ids: ``[batch, time]``, int64.
            encoder_hidden_states: ``[batch, encoded, width]``, float32.
            *values: One tensor per name in ``inputs``.

        Returns:
            Logits ``[batch, time, vocabulary]``, float32.
        """
        return self.model(
            decoder_input_ids=decoder_input_ids,
            encoder_outputs=(encoder_hidden_states,),
            use_cache=False,
            **dict(zip(self.inputs, values, strict=True)),
        ).logits
