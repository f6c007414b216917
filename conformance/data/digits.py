"""The 8x8 digits of scikit-learn, which are the test part of UCI's, with a fixed split."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np

__all__ = ["FILE", "evaluation", "load"]

#: of each split the images, `[n, 8, 8]` from 0 to 16, and their labels `[n]`, all uint8
FILE = Path(__file__).with_name("digits.npz")


def load(split: Literal["train", "test"]) -> tuple[np.ndarray, np.ndarray]:
    """Load one part of the stratified 50/50 split.

    Args:
        split: ``"train"`` or ``"test"``.

    Returns:
        Images ``[n, 1, 8, 8]`` float32 in [0, 1] and labels ``[n]`` int64.

    Raises:
        ValueError: If the split is unknown.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test', not {split!r}")
    with np.load(FILE) as arrays:
        images, labels = arrays[f"{split}_images"], arrays[f"{split}_labels"]
    return (images[:, None] / 16.0).astype(np.float32), labels.astype(np.int64)


def evaluation() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Yield the 899 test images as one batch: ``({"image": images}, labels)``, see `load`."""
    images, labels = load("test")
    yield {"image": images}, labels
