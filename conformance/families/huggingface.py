"""Models of transformers, built from a config: nothing is downloaded."""

from __future__ import annotations

import importlib
from typing import Any

from torch import nn

from conformance.families._call import Called, Continued, Decoder
from conformance.families._torchvision import make_torchvision_importable
from conformance.families._weights import calibrate, seed_weights


def from_config(
    model: str,
    inputs: list[str],
    outputs: list[str],
    config: dict[str, Any],
    arguments: dict[str, Any] | None = None,
) -> nn.Module:
    """Build a model with seeded random weights.

    Args:
        model: Class in ``transformers``.
        inputs: Names of ``forward``'s parameters that get tensors, in the order they come in.
        outputs: Names of what it returns.
        config: Arguments of the class's config.
        arguments: Further arguments of ``forward``.

    Returns:
        Eval-mode model of ``inputs``, to ``outputs``.
    """
    return Called(seeded(model, config), inputs, outputs, **(arguments or {})).eval()


def with_cache(model: str, config: dict[str, Any]) -> nn.Module:
    """Build a decoder that goes on with a text whose keys and values it is given.

    Args:
        model: Class in ``transformers``.
        config: Arguments of the class's config.

    Returns:
        Eval-mode model: see :class:`conformance.families._call.Continued`.
    """
    decoder = seeded(model, config)
    return Continued(decoder, decoder.config.num_hidden_layers).eval()


def seeded(model: str, config: dict[str, Any]) -> nn.Module:
    """Build a class of transformers with seeded weights; of images, with calibrated norms."""
    make_torchvision_importable()
    build = getattr(importlib.import_module("transformers"), model)
    module = build(build.config_class(**config))
    seed_weights(module)
    if module.main_input_name == "pixel_values":
        calibrate(module, size=getattr(module.config, "image_size", 64))
    return module.eval()


def t5_decoder(config: dict[str, Any]) -> nn.Module:
    """Build T5's decoder, which reads what its encoder gave.

    Args:
        config: Arguments of T5's config.

    Returns:
        Eval-mode model of ``decoder_input_ids`` ``[batch, time]`` int64, the encoder's states
        ``[batch, encoded, d_model]`` float32 and their ``attention_mask`` ``[batch, encoded]``
        int64, to logits ``[batch, time, vocabulary]`` float32.
    """
    model = seeded("T5ForConditionalGeneration", config)
    return Decoder(model, "attention_mask").eval()


def whisper_encoder(config: dict[str, Any]) -> nn.Module:
    """Build Whisper's encoder.

    Args:
        config: Arguments of Whisper's config.

    Returns:
        Eval-mode model of ``input_features`` ``[batch, mel, 2 * time]`` float32, to
        ``[batch, time, d_model]`` float32.
    """
    model = seeded("WhisperModel", config)
    return Called(model.encoder, ["input_features"], ["last_hidden_state"]).eval()


def whisper_decoder(config: dict[str, Any]) -> nn.Module:
    """Build Whisper's decoder.

    Args:
        config: Arguments of Whisper's config.

    Returns:
        Eval-mode model of ``decoder_input_ids`` ``[batch, time]`` int64 and the encoder's states
        ``[batch, encoded, d_model]`` float32, to logits ``[batch, time, vocabulary]`` float32.
    """
    return Decoder(seeded("WhisperForConditionalGeneration", config)).eval()
