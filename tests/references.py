"""References that several tests make: a function as a module, a model whose inputs are batches."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest import load_manifest

BATCHED = """
schema = 1
[models.net]
factory = "net.py:make"
dims = {{ {dims} }}
{more}
"""
#: inputs and outputs in batches
PLAIN = 'inputs.x = { shape = ["batch", "time", 2] }\noutputs.y.shape = ["batch", 2]'


class Function(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def batched(folder: Path, text: str = PLAIN, dims: str = "batch = [1, 3], time = [4]") -> Reference:
    """The reference of a model with these inputs and outputs; its module is never run."""
    path = folder / "models.toml"
    path.write_text(BATCHED.format(dims=dims, more=text))
    model = load_manifest(path).models["net"]
    shapes = {name: entry.shape for name, entry in model.inputs.items()}
    return Reference(model, nn.Identity(), shapes)
