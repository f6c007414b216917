"""Masks: which rows they keep, how they are drawn, and which of their rows keep nothing.

A row lies along the last axis; the first axis counts examples, unless it is the only one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pytest_onnxcheck.manifest.sections import Input

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

__all__ = [
    "EMPTYING",
    "applies",
    "beyond",
    "drawn",
    "empty_rows",
    "masked",
    "of_kind",
    "padded",
    "whole_rows",
]

#: kinds with rows that mask everything
EMPTYING = frozenset({"all false", "one row false"})


def applies(kind: str, entry: Input) -> bool:
    """Whether a mask may be of a kind, by what the manifest says of it."""
    if kind in EMPTYING:
        return entry.empty_rows
    side = "left" if entry.padding == "left" else "right"
    return entry.padding in (None, "any") or kind in ("all true", f"{side} padding")


def beyond(kind: str, entry: Input) -> bool:
    """Whether nobody said that a mask may be of a kind: it is masked elsewhere than at its end."""
    undeclared = entry.fill == "mask" and entry.padding is None
    return undeclared and kind in ("left padding", "single true", "alternating")


def drawn(rng: np.random.Generator, entry: Input, shape: tuple[int, ...]) -> Array:
    """A mask as tokenizers give it: examples of other lengths, padded to the longest."""
    lengths = rng.integers(1, shape[-1], _examples(shape), endpoint=True)
    if len(lengths) > 1:
        lengths[rng.integers(len(lengths))] = shape[-1]
    return _valued(entry, _padded(lengths, shape, left=entry.padding == "left"))


def of_kind(entry: Input, kept: Array, kind: str) -> Array:
    """A mask of a kind.

    Args:
        entry: The input.
        kept: What the kind keeps, without a look at what the manifest says of the mask.
        kind: The kind. Only those that are made for it have rows that mask everything.
    """
    import numpy as np

    kept = np.array(kept)
    if kind not in EMPTYING:
        kept[..., 0] |= ~kept.any(-1)
    return _valued(entry, kept)


def padded(shape: tuple[int, ...], *, left: bool) -> Array:
    """Booleans, true where padded examples have their own elements.

    The first example is full and the last one of length 1; a single one is half full.
    """
    import numpy as np

    examples, length = _examples(shape), shape[-1]
    ends = (length, 1) if examples > 1 else ((length + 1) // 2,) * 2
    return _padded(np.linspace(*ends, examples).round().astype(int), shape, left=left)


def empty_rows(inputs: Mapping[str, Input], arrays: Mapping[str, Array]) -> list[str]:
    """The inputs that have rows that mask everything.

    What is 0 or 1 may be a mask that the manifest does not call one: there, rows of zeros count,
    where it has several axes.
    """
    return [
        name
        for name, entry in inputs.items()
        if (entry.fill == "mask" or (_may_be_one(entry) and arrays[name].ndim > 1))
        and arrays[name].ndim
        and arrays[name].size  # a row without elements masks nothing
        and bool(masked(entry, arrays[name]).all(-1).any())
    ]


def whole_rows(inputs: Mapping[str, Input], arrays: Mapping[str, Array]) -> list[str]:
    """The masks of 0 and 1 that have rows in which nothing is masked."""
    return [
        name
        for name, entry in inputs.items()
        if entry.fill == "mask"
        and not entry.dtype.startswith("float")
        and arrays[name].ndim
        and arrays[name].size
        and bool((~masked(entry, arrays[name])).all(-1).any())
    ]


def masked(entry: Input, mask: Array) -> Array:
    """Booleans, true where a mask hides an element."""
    hidden: Array = mask == (entry.masked or 0)
    return hidden


def _examples(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) > 1 else 1


def _padded(lengths: Array, shape: tuple[int, ...], *, left: bool) -> Array:
    import numpy as np

    places = np.arange(shape[-1])[:: -1 if left else 1]
    return np.broadcast_to(places < lengths.reshape(-1, *[1] * (len(shape) - 1)), shape)


def _valued(entry: Input, kept: Array) -> Array:
    """The values of a mask: nothing behind its place in the axis before is kept where causal."""
    import numpy as np

    if entry.padding == "causal" and kept.ndim > 1:
        queries, keys = kept.shape[-2:]
        kept = kept & np.tri(queries, keys, max(keys - queries, 0), dtype=bool)
    masked = entry.masked or 0.0
    return np.where(kept, float(masked == 0), masked)


def _may_be_one(entry: Input) -> bool:
    return entry.binary and entry.fill not in ("constant", "file")
