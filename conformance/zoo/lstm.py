"""Bidirectional LSTMs on sequences of any length: a tagger and a classifier."""

from __future__ import annotations

import torch
from torch import nn

from conformance.zoo._init import init_linear


class BiLSTMTagger(nn.Module):
    """Bidirectional LSTM with one linear layer per frame.

    Args:
        in_features: Width of the frames.
        hidden: Hidden units per direction.
        layers: Number of stacked LSTM layers.
        num_tags: Number of logits per frame.
    """

    def __init__(self, in_features: int, hidden: int, layers: int, num_tags: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(in_features, hidden, layers, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, num_tags)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Tag every frame.

        torch.export gives the output of an LSTM the number of frames of its example input. The
        selection of all frames changes no value, but takes the length from ``frames``, so that
        the exported model declares it as dynamic.

        Args:
            frames: ``[batch, time, in_features]``, float32.

        Returns:
            Logits ``[batch, time, num_tags]``, float32.
        """
        states, _ = self.lstm(frames)
        every_frame = torch.arange(frames.shape[1], device=frames.device)
        return self.head(states.index_select(1, every_frame))


class BiLSTMClassifier(nn.Module):
    """Bidirectional LSTM with a linear layer on the final states of both directions.

    Args:
        in_features: Width of the frames.
        hidden: Hidden units per direction.
        num_classes: Number of logits.
    """

    def __init__(self, in_features: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(in_features, hidden, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * hidden, num_classes)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Map ``frames`` ``[batch, time, in_features]`` to logits ``[batch, num_classes]``."""
        _, (final, _) = self.lstm(frames)
        return self.head(final.transpose(0, 1).flatten(1))


def _init_lstm(lstm: nn.LSTM) -> None:
    """Initialise an LSTM with unit-gain input weights and orthogonal recurrent weights."""
    for name, parameter in lstm.named_parameters():
        if name.startswith("weight_ih"):
            nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
        elif name.startswith("weight_hh"):
            nn.init.orthogonal_(parameter)


def bilstm_tagger(
    in_features: int = 40, hidden: int = 64, layers: int = 2, num_tags: int = 12
) -> nn.Module:
    """Build the tagger with random weights.

    Args:
        in_features: Width of the frames.
        hidden: Hidden units per direction.
        layers: Number of stacked LSTM layers.
        num_tags: Number of logits per frame.

    Returns:
        Eval-mode model: ``frames`` ``[batch, time, in_features]`` float32 (standard normal) to
        logits ``[batch, time, num_tags]`` float32.
    """
    model = BiLSTMTagger(in_features, hidden, layers, num_tags)
    _init_lstm(model.lstm)
    init_linear(model.head, gain=4.0)
    return model.eval()


def bilstm_classifier(in_features: int = 40, hidden: int = 64, num_classes: int = 12) -> nn.Module:
    """Build the classifier with random weights.

    Args:
        in_features: Width of the frames.
        hidden: Hidden units per direction.
        num_classes: Number of logits.

    Returns:
        Eval-mode model: ``frames`` ``[batch, time, in_features]`` float32 (standard normal) to
        logits ``[batch, num_classes]`` float32.
    """
    model = BiLSTMClassifier(in_features, hidden, num_classes)
    _init_lstm(model.lstm)
    init_linear(model.head, gain=4.0)
    return model.eval()
