"""A folder that `save_pretrained` wrote: its class by its config, its inputs by its modality."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.guess.factories import Built
from pytest_onnxcheck.engine.guess.files import of_onnx
from pytest_onnxcheck.engine.guess.interface import Interface, observe
from pytest_onnxcheck.engine.guess.layers import BATCH, TIME, Spec
from pytest_onnxcheck.engine.quiet import quiet
from pytest_onnxcheck.engine.reference.folders import CONFIG
from pytest_onnxcheck.engine.reference.pretrained import load_pretrained
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest import Model

if TYPE_CHECKING:
    import torch

__all__ = ["interface_of_folder", "is_pretrained", "load_folder"]

_SAMPLES = 16000
_FRAMES = 100


def is_pretrained(folder: Path) -> bool:
    """Whether a folder is one of Hugging Face's: a config that names a class."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("architectures"))


def load_folder(model: Model) -> Built:
    """The model in a folder, by `from_pretrained` of the class that its config names.

    Args:
        model: With `pretrained`.

    Raises:
        CheckpointError: As `load_pretrained`.
    """
    return Built(load_pretrained(model).module.eval(), None)


def interface_of_folder(module: torch.nn.Module, onnx: Path | None = None) -> Interface:
    """The inputs of a model of transformers, by its main one and its config; and its outputs.

    Args:
        module: The model.
        onnx: An artefact that exists, whose inputs and outputs they are.

    Raises:
        InputError: It does not run on them.
    """
    config: Any = module.config
    parameters = inspect.signature(module.forward).parameters
    # a cache holds no output that anybody waits for
    cached = "use_cache" in parameters and bool(getattr(config, "use_cache", False))
    arguments = {"use_cache": False} if cached else {}
    if onnx is not None:
        with quiet():
            return of_onnx(onnx, module, arguments)
    main = str(getattr(module, "main_input_name", "input_ids"))
    makers = {"input_ids": _text, "pixel_values": _pixels}
    makers |= {"input_values": _samples, "input_features": _features}
    if main not in makers:
        raise InputError(f"its main input {main!r} is of no known kind: write the manifest by hand")
    specs = makers[main](config)
    if getattr(config, "is_encoder_decoder", False):
        why = "the decoder's own words"
        specs["decoder_input_ids"] = Spec((BATCH, TIME), "int64", _words(config), why)
    with quiet():
        return observe(module, dict(specs), chosen=_wanted, arguments=arguments)


def _wanted(paths: list[str]) -> list[str]:
    """The logits where there are any, else all but caches and what lies inside."""
    if "logits" in paths:
        return ["logits"]
    inner = ("past_key_values", "hidden_states", "attentions", "decoder_", "encoder_", "cross_")
    return [path for path in paths if not path.startswith(inner)] or paths


def _words(config: Any) -> tuple[int, int]:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return 0, int(text.vocab_size) - 1


def _text(config: Any) -> dict[str, Spec]:
    words = _words(config)
    return {
        "input_ids": Spec((BATCH, TIME), "int64", words, f"vocab_size {words[1] + 1}"),
        "attention_mask": Spec(
            (BATCH, TIME), "int64", (0, 1), "as tokenizers give it", padding="right"
        ),
    }


def _pixels(config: Any) -> dict[str, Spec]:
    size = getattr(config, "image_size", 224)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = getattr(config, "num_channels", 3)
    why = f"image_size {size}, num_channels {channels}"
    return {"pixel_values": Spec((BATCH, channels, height, width), why=why)}


def _samples(config: Any) -> dict[str, Spec]:
    return {"input_values": Spec((BATCH, _SAMPLES), why="a second at 16 kHz")}


def _features(config: Any) -> dict[str, Spec]:
    bins = getattr(config, "num_mel_bins", 80)
    frames = 2 * getattr(config, "max_source_positions", _FRAMES // 2)
    return {"input_features": Spec((BATCH, bins, frames), why=f"num_mel_bins {bins}")}
