"""A folder that `save_pretrained` wrote: its class by its config, its inputs by its modality."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.engine.guess.factories import Built
from pytest_onnxcheck.engine.guess.interface import Interface, observe
from pytest_onnxcheck.engine.guess.layers import BATCH, Spec
from pytest_onnxcheck.engine.quiet import quiet
from pytest_onnxcheck.engine.reference.imports import import_object
from pytest_onnxcheck.errors import CheckpointError, InputError
from pytest_onnxcheck.wording import one_line

if TYPE_CHECKING:
    import torch

__all__ = ["interface_of_folder", "is_pretrained", "load_folder"]

_STEPS = 16
_SAMPLES = 16000
_FRAMES = 100


def is_pretrained(folder: Path) -> bool:
    """Whether a folder is one of Hugging Face's: a config that names a class."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and bool(config.get("architectures"))


def load_folder(folder: Path, written: str) -> Built:
    """The model in a folder, by `from_pretrained` of the class that its config names.

    Nothing is downloaded.

    Args:
        folder: The folder.
        written: The same, as the manifest is to have it.

    Raises:
        CheckpointError: transformers is not installed, or does not load it.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    path = f"transformers:{config['architectures'][0]}.from_pretrained"
    kwargs: dict[str, Any] = {"pretrained_model_name_or_path": written, "local_files_only": True}
    if config.get("use_cache"):  # a cache is no tensor: outputs without it
        kwargs["use_cache"] = False
    try:
        with quiet(), contextlib.redirect_stderr(io.StringIO()):
            factory = import_object(path, folder)
            module = factory(**{**kwargs, "pretrained_model_name_or_path": str(folder)})
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: needs transformers: {one_line(error, 160)}") from error
    except Exception as error:
        raise CheckpointError(
            f"{folder}: {path} does not load it: {type(error).__name__}: {one_line(error, 200)}"
        ) from error
    return Built(module.eval(), path, kwargs=kwargs)


def interface_of_folder(module: torch.nn.Module) -> Interface:
    """The inputs of a model of transformers, by its main one and its config; and its outputs.

    Raises:
        InputError: It does not run on them.
    """
    config: Any = module.config
    main = str(getattr(module, "main_input_name", "input_ids"))
    makers = {"input_ids": _text, "pixel_values": _pixels}
    makers |= {"input_values": _samples, "input_features": _features}
    if main not in makers:
        raise InputError(f"its main input {main!r} is of no known kind: write the manifest by hand")
    specs = makers[main](config)
    if getattr(config, "is_encoder_decoder", False):
        why = "the decoder's own words"
        specs["decoder_input_ids"] = Spec((BATCH, _STEPS), "int64", _words(config), why)
    with quiet():
        return observe(module, dict(specs))


def _words(config: Any) -> tuple[int, int]:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return 0, int(text.vocab_size) - 1


def _text(config: Any) -> dict[str, Spec]:
    words = _words(config)
    return {
        "input_ids": Spec((BATCH, _STEPS), "int64", words, f"vocab_size {words[1] + 1}"),
        "attention_mask": Spec((BATCH, _STEPS), "int64", (0, 1), "as tokenizers give it"),
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
