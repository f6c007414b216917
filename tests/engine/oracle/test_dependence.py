"""What PyTorch's outputs depend on, by running it."""

import dataclasses

import numpy as np
import pytest
from torch import nn

from pytest_onnxcheck.engine.oracle.dependence import ignores, runs_at_other_sizes
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest import load_manifest

MANIFEST = """
schema = 1
[models.net]
factory = "net.py:make"
dims = { batch = [1, 4], time = [3], frames = [3] }
inputs.x.shape = ["batch", "time"]
inputs.scale.shape = [1]
outputs.y.shape = ["batch", "frames"]
"""


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x, scale):
        return self.function(x, scale)


@pytest.fixture
def reference(tmp_path):
    def make(function, manifest=MANIFEST):
        (tmp_path / "models.toml").write_text(manifest, encoding="utf-8")
        model = load_manifest(tmp_path / "models.toml").models["net"]
        return Reference(model, Net(function), {"x": ("batch", "time"), "scale": (1,)})

    return make


def test_an_input_that_changes_no_bit_is_ignored(reference):
    taken = reference(lambda x, scale: x * scale)
    assert not ignores(taken, "x")
    assert not ignores(taken, "scale")
    assert ignores(reference(lambda x, scale: x + scale * 0), "scale")


def refuses_zero(x, scale):
    if not scale.any():
        raise ValueError("a scale of zero")
    return x


def test_what_pytorch_does_not_run_on_is_not_ignored(reference):
    assert not ignores(reference(refuses_zero), "scale")


def short(x, scale):
    if x.shape[1] > 5:
        raise ValueError("too long")
    return x


def test_sizes_are_those_declared_and_larger_ones_and_those_refused_are_told(reference):
    runs = list(runs_at_other_sizes(reference(short)))
    tried = [(dims["batch"], dims["time"], outputs is not None) for dims, _, outputs in runs]
    assert tried == [
        (1, 3, True),
        (4, 3, True),
        (5, 3, True),
        (8, 3, True),
        (4, 4, True),
        (4, 6, False),
    ]
    shapes = [outputs["y"].shape for _, _, outputs in runs if outputs is not None]
    assert shapes[-1] == (4, 4)


@pytest.mark.parametrize(
    ("span", "tried"),
    [
        ({"from": 8, "to": 64, "step": 8}, [8, 24, 64, 16]),
        ({"from": 4, "to": 5}, [4, 5]),
        ({"from": 3, "to": 5}, [3, 4, 5]),
    ],
)
def test_sizes_of_a_range_are_those_that_it_holds(reference, span, tried):
    text = ", ".join(f"{key} = {value}" for key, value in span.items())
    taken = reference(lambda x, scale: x, MANIFEST.replace("[1, 4]", f"{{ {text} }}"))
    found = [dims["batch"] for dims, *_ in runs_at_other_sizes(taken)]
    assert list(dict.fromkeys(found)) == tried


def test_sizes_that_a_file_does_not_have_are_left_out(reference, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 3), "float32"))
    taken = reference(lambda x, scale: x)
    inputs = dict(taken.model.inputs)
    inputs["x"] = inputs["x"].model_copy(update={"file": "x.npz"})
    taken.model = dataclasses.replace(taken.model, inputs=inputs)
    assert {dims["time"] for dims, _, _ in runs_at_other_sizes(taken)} == {3}
