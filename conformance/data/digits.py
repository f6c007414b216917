"""scikit-learn's 8x8 digits with a fixed split."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


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
    digits = load_digits()
    train, test = train_test_split(
        np.arange(len(digits.target)), test_size=0.5, random_state=0, stratify=digits.target
    )
    indices = train if split == "train" else test
    images = (digits.images[indices, None] / 16.0).astype(np.float32)
    return images, digits.target[indices].astype(np.int64)


def evaluation() -> Iterator[tuple[dict[str, np.ndarray], np.ndarray]]:
    """Yield the 899 test images as one batch: ``({"image": images}, labels)``, see `load`."""
    images, labels = load("test")
    yield {"image": images}, labels
