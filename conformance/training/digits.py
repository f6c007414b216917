"""Write the digits, train their classifiers, and write checkpoints and calibration data."""

from __future__ import annotations

import io

import numpy as np
import torch
from safetensors.torch import save as save_safetensors

from conformance.data import digits
from conformance.training._common import CHECKPOINTS, CONFORMANCE, accuracy, fit, write_atomic
from conformance.zoo.digits import simple_cnn, tiny_net

CALIBRATION_IMAGES = 64


def split() -> None:
    """Split scikit-learn's digits in two halves, stratified by label, and write them."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    train, test = train_test_split(
        np.arange(len(found.target)), test_size=0.5, random_state=0, stratify=found.target
    )
    arrays = {}
    for name, indices in {"train": train, "test": test}.items():
        arrays[f"{name}_images"] = found.images[indices].astype(np.uint8)
        arrays[f"{name}_labels"] = found.target[indices].astype(np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(digits.FILE, buffer.getvalue())


def main() -> None:
    """Train, evaluate and save both classifiers."""
    split()
    train_images, train_labels = digits.load("train")
    test_images, test_labels = digits.load("test")

    torch.manual_seed(0)
    cnn = simple_cnn()
    fit(cnn, train_images, train_labels, epochs=20, learning_rate=5e-3)
    print(f"simple_cnn: test accuracy {accuracy(cnn, test_images, test_labels):.4f}")
    # Prefixed as DataParallel prefixes them: a loader has to strip "module.".
    state = {f"module.{name}": value for name, value in cnn.state_dict().items()}
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(CHECKPOINTS / "simple_cnn.pt", buffer.getvalue())

    torch.manual_seed(0)
    net = tiny_net()
    fit(net, train_images, train_labels, epochs=60, learning_rate=2e-2)
    print(f"tiny_net: test accuracy {accuracy(net, test_images, test_labels):.4f}")
    write_atomic(CHECKPOINTS / "tiny_net.safetensors", save_safetensors(net.state_dict()))

    buffer = io.BytesIO()
    np.savez_compressed(buffer, image=train_images[:CALIBRATION_IMAGES])
    write_atomic(CONFORMANCE / "data" / "digits_calibration.npz", buffer.getvalue())


if __name__ == "__main__":
    main()
