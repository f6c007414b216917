"""Shapes that a module may take, from the weights of its layers, the likeliest first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["BATCH", "STEPS", "TIME", "Spec", "candidates"]

#: the axis that counts examples
BATCH = "batch"
#: the axis that counts the steps of a sequence, and how many there are where any number would do
TIME, STEPS = "time", 16
#: layers that are looked at: the first ones take the inputs
_LAYERS = 12

_COLOUR = (224, 64, 32, 128, 96, 256, 28, 16, 8, 299, 384)
_GREY = (28, 32, 64, 8, 16, 128, 224, 96, 48, 256)
_SAMPLES = (128, 1024, 256, 64, 512, 100, 1000, 4000, 16000)
_CUBES = (16, 32, 8, 64)


@dataclass(frozen=True)
class Spec:
    """One input as it may be.

    Attributes:
        shape: Its sizes; `BATCH` counts examples, `TIME` steps.
        dtype: Its element type, as the manifest calls it.
        range: Lowest and highest value; None for normal draws.
        why: What speaks for it.
        padding: Of a mask: where its rows are masked, see `sections.Input`; None for anywhere.
        path: Of an output: where it stands in what `forward` returns, if not all that does is one.
    """

    shape: tuple[int | str, ...]
    dtype: str = "float32"
    range: tuple[int, int] | None = None
    why: str = ""
    path: str | None = None
    padding: str | None = None


def candidates(module: torch.nn.Module) -> list[Spec]:
    """What the first input may be, by the weights of the first layers; each once."""
    found: dict[tuple[object, ...], Spec] = {}
    seen = 0
    for name, layer in module.named_modules():
        specs = list(_of_layer(layer))
        seen += bool(specs)
        for spec in specs:
            why = f"{name or 'the module'} is {type(layer).__name__}: {spec.why}"
            found.setdefault((spec.shape, spec.dtype), replace(spec, why=why))
        if seen == _LAYERS:
            break
    return list(found.values())


def _of_layer(layer: torch.nn.Module) -> Iterator[Spec]:
    import torch
    from torch import nn

    if isinstance(layer, torch.jit.ScriptModule):
        yield from _of_script(layer)
        return
    if isinstance(layer, nn.modules.conv._ConvNd):
        yield from _convolution(layer.in_channels, len(layer.kernel_size))
    elif isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        yield _words(layer.num_embeddings)
    elif isinstance(layer, nn.RNNBase):
        why = f"input_size {layer.input_size}"
        turned = (TIME, BATCH, layer.input_size)
        shape = (BATCH, TIME, layer.input_size) if layer.batch_first else turned
        yield Spec(shape, why=why)
    elif isinstance(layer, nn.Linear):
        yield from _linear(layer.in_features)
    elif isinstance(layer, nn.MultiheadAttention):
        yield Spec((BATCH, TIME, layer.embed_dim), why=f"embed_dim {layer.embed_dim}")
    elif isinstance(layer, nn.LayerNorm):
        yield Spec((BATCH, *layer.normalized_shape), why=f"shape {layer.normalized_shape}")
        yield Spec((BATCH, TIME, *layer.normalized_shape), why=f"shape {layer.normalized_shape}")
    elif isinstance(layer, nn.modules.batchnorm._BatchNorm):
        yield from _normalised(layer.num_features, 2 if isinstance(layer, nn.BatchNorm2d) else 1)


def _of_script(layer: torch.jit.ScriptModule) -> Iterator[Spec]:
    """A compiled layer: what it was called, and the shape of its weight, are left of it."""
    called, weight = layer.original_name, getattr(layer, "weight", None)
    if weight is None:
        return
    if called == "Embedding":
        yield _words(len(weight))
    elif called == "Linear":
        yield from _linear(weight.shape[1])
    elif called in ("Conv1d", "Conv2d", "Conv3d"):
        yield from _convolution(weight.shape[1], weight.ndim - 2)


def _words(count: int) -> Spec:
    return Spec((BATCH, TIME), "int64", (0, count - 1), f"{count} embeddings")


def _convolution(channels: int, rank: int) -> Iterator[Spec]:
    likely = {1: _SAMPLES, 2: _COLOUR if channels == 3 else _GREY}.get(rank, _CUBES)
    others = range(4, 129) if rank == 2 else ()  # a linear layer behind may take one size alone
    for size in dict.fromkeys([*likely, *others]):
        yield Spec(
            (BATCH, channels, *[size] * rank),
            why=f"in_channels {channels}; it takes {size}, others may do",
        )


def _linear(features: int) -> Iterator[Spec]:
    why = f"in_features {features}"
    yield Spec((BATCH, features), why=why)
    yield Spec((BATCH, TIME, features), why=why)
    for channels in (1, 3):  # flattened pictures
        side = math.isqrt(features // channels)
        if side > 1 and channels * side * side == features:
            yield Spec((BATCH, channels, side, side), why=why)


def _normalised(features: int, rank: int) -> Iterator[Spec]:
    why = f"num_features {features}"
    if rank == 2:
        for size in _GREY:
            yield Spec((BATCH, features, size, size), why=why)
        return
    yield Spec((BATCH, features), why=why)
    yield Spec((BATCH, features, 128), why=why)
