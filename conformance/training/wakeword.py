"""Train the wake-word detector and write its checkpoint."""

from __future__ import annotations

import io

import torch

from conformance.data.wakeword import CONFIG, TEST_SEED, TRAIN_SEED, make_dataset
from conformance.training._common import CHECKPOINTS, accuracy, fit, write_atomic
from conformance.zoo.wakeword import resnet18


def main() -> None:
    """Train, evaluate and save the detector."""
    torch.manual_seed(0)
    model = resnet18(config=CONFIG)
    fit(model, *make_dataset(3000, TRAIN_SEED, CONFIG), epochs=8, learning_rate=5e-3)
    test = accuracy(model, *make_dataset(1000, TEST_SEED, CONFIG))
    print(f"wakeword: test accuracy {test:.4f}")
    buffer = io.BytesIO()
    torch.save({"config": CONFIG, "model_state_dict": model.state_dict()}, buffer)
    write_atomic(CHECKPOINTS / "wakeword.pt", buffer.getvalue())


if __name__ == "__main__":
    main()
