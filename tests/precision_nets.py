"""Nets of several kinds, and their artefacts in each precision."""

from __future__ import annotations

import dataclasses

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.manifest import load_manifest

NETS = """
import torch
from torch import nn


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4),
        nn.ReLU(), nn.ConvTranspose2d(8, 6, 3, stride=2), nn.Flatten(),
        nn.Linear(6 * 9 * 9, 16),
    )


def embedding():
    return nn.Sequential(nn.Embedding(200, 32), nn.Tanh())


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(48, 3 * 48), nn.Linear(48, 48)

    def forward(self, x):
        batch, steps = x.shape[:2]
        q, k, v = self.qkv(x).view(batch, steps, 3, 4, 12).permute(2, 0, 3, 1, 4)
        attended = torch.softmax(q @ k.transpose(-1, -2), -1) @ v
        return self.out(attended.transpose(1, 2).reshape(batch, steps, 48))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(32, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.gru(self.lstm(self.embedding(x))[0])[0])
"""

MANIFEST = """
schema = 1
[defaults]
exporters = ["torchscript"]
opsets = [17]
precisions = ["fp32", "fp16", "bf16", "half", "int8-dynamic", "int8-static", "int4-weight"]

[models.convolutional]
factory = "nets_coverage.py:convolutional"
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 2, 12, 12]
outputs.y.shape = ["batch", 16]

[models.attention]
factory = "nets_coverage.py:Attention"
dims = { batch = [1, 2], steps = [5] }
inputs.x.shape = ["batch", "steps", 48]
outputs.y.shape = ["batch", "steps", 48]

[models.embedding]
factory = "nets_coverage.py:embedding"
dims = { batch = [1, 2] }
inputs.x = { shape = ["batch", 6], dtype = "int64", range = [0, 199] }
outputs.y.shape = ["batch", 6, 32]

[models.tagger]
factory = "nets_coverage.py:Tagger"
dims = { batch = [2], steps = [1, 7] }
inputs.x = { shape = ["batch", "steps"], dtype = "int64", range = [0, 19] }
outputs.y.shape = ["batch", "steps", 4]
"""


def maker(root):
    """Gives reference, variant, fp32 artefact and artefact of a net in a precision."""
    (root / "nets_coverage.py").write_text(NETS)
    (root / "models.toml").write_text(MANIFEST)
    models = load_manifest(root / "models.toml").models
    builds = Builds(root / "artefacts")

    def make(name, precision, **options):
        reference = builds.reference(models[name])
        variant = models[name].variant("torchscript", 17, precision)
        quantization = variant.quantization.model_copy(update=options)
        variant = dataclasses.replace(variant, quantization=quantization)
        built = builds.artefact(reference, variant)
        return reference, variant, builds.float_artefact(reference, variant), built

    return make


def shapes_of(arrays):
    return {name: array.shape for name, array in arrays.items()}
