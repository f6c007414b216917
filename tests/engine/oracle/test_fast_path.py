"""PyTorch's fast path for transformers: what is compared where a mask hides an element."""

import numpy as np
import pytest
import torch
from torch import nn

from pytest_onnxcheck.engine.oracle.fast_path import HIDDEN, PACKED, slow_attention
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest import load_manifest

MANIFEST = """
schema = 1
[models.net]
factory = "net.py:make"
dims = {{ batch = [2], time = [5] }}
inputs.x.shape = ["batch", "time", 8]
inputs.padding_mask = {{ shape = ["batch", "time"], dtype = "bool" }}
outputs.y.shape = {shape}
"""


class Encoder(nn.Module):
    def __init__(self, head):
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 1), head

    def forward(self, x, padding_mask):
        return self.head(self.encoder(x, src_key_padding_mask=padding_mask))


@pytest.fixture
def first(tmp_path):
    """Makes the oracle of an encoder with something behind it, and its first case."""

    def make(head, shape):
        (tmp_path / "models.toml").write_text(MANIFEST.format(shape=shape))
        model = load_manifest(tmp_path / "models.toml").models["net"]
        shapes = {name: tuple(entry.shape) for name, entry in model.inputs.items()}
        torch.manual_seed(0)
        oracle = Oracle(Reference(model, Encoder(head).eval(), shapes))
        case = oracle.declared[0]
        assert case.inputs["padding_mask"].any()
        with slow_attention():
            (slow,) = oracle.reference.run(case.inputs)
        return oracle, case, slow

    return make


def test_what_a_mask_hides_is_what_the_layers_give_without_it(first):
    oracle, case, slow = first(nn.Linear(8, 3), '["batch", "time", 3]')
    expected, hidden = oracle.expected(case), case.inputs["padding_mask"]
    assert np.abs(expected.own[0] - slow)[hidden].max() > 0.01
    assert np.array_equal(expected.outputs[0][hidden], slow[hidden])
    assert np.array_equal(expected.outputs[0][~hidden], expected.own[0][~hidden])
    assert expected.exact is not None
    assert oracle.notes == [HIDDEN]


def test_what_no_mask_lies_along_is_what_pytorch_gives_and_that_is_told(first):
    """An average over padded places is another one in the artefact."""

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean(1)

    oracle, case, slow = first(Mean(), '["batch", 8]')
    expected = oracle.expected(case)
    assert np.abs(expected.outputs[0] - slow).max() > 0.01
    assert np.array_equal(expected.outputs[0], expected.own[0])
    assert oracle.notes == [PACKED]


def test_nothing_is_told_where_both_ways_give_the_same(first):
    class First(nn.Module):
        def forward(self, x):
            return x[:, 0]

    oracle, case, slow = first(First(), '["batch", 8]')
    assert np.allclose(oracle.expected(case).outputs[0], slow, atol=1e-6)
    assert oracle.notes == []
