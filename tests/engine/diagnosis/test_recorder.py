"""Traces: the values of one run, their floors, and how they are found again."""

import math

import numpy as np
import pytest
from helpers import line_of

from pytest_onnxcheck.engine.diagnosis.recorder import trace
from pytest_onnxcheck.engine.diagnosis.trace import INPUT, sketch
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.rounding import UNIT
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.manifest import load_manifest

NETS = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x):
        h = self.inner(x)
        buffer = torch.zeros_like(h)
        buffer[:, :3] = h[:, :3]
        return buffer.exp()


class Branches(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x):
        return torch.cond(x.sum() > -1e9, lambda x: self.inner(x).exp(), lambda x: x + 0.0, (x,))


class Padded(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x):
        rows = torch.nested.nested_tensor([x[:1], x[1:]])
        return torch.nested.to_padded_tensor(rows, 0.0).exp()


class Refusing(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 6)

    def forward(self, x):
        if x.dtype is torch.float64 and torch.utils._python_dispatch._get_current_dispatch_mode():
            raise RuntimeError("not recorded in float64")
        return self.inner(x).exp()
"""
MANIFEST = "schema = 1\n" + "".join(
    f"""
[models.{name}]
factory = "nets_recorder.py:{name}"
dims = {{ batch = [2, 3] }}
inputs.x.shape = ["batch", 6]
outputs.y.shape = [1]
"""
    for name in ("Net", "Branches", "Padded", "Refusing")
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    root = tmp_path_factory.mktemp("nets_recorder")
    (root / "nets_recorder.py").write_text(NETS, encoding="utf-8")
    (root / "models.toml").write_text(MANIFEST, encoding="utf-8")
    return load_manifest(root / "models.toml")


@pytest.fixture(scope="module")
def oracle(manifest):
    return Oracle(load_reference(manifest.models["Net"]))


@pytest.fixture(scope="module")
def traced(oracle):
    return trace(oracle, oracle.declared[0])


def test_every_value_has_its_module_line_and_floor(oracle, traced):
    assert traced.records[traced.inputs["x"]].operator == INPUT
    (index,) = traced.outputs
    linear = next(record for record in traced.records if record.module == "inner")
    assert linear.source.endswith(f"nets_recorder.py:{line_of('self.inner(x)', NETS)}")
    output = traced.records[index]
    assert output.operator == "aten.exp"
    assert output.source.endswith(f"nets_recorder.py:{line_of('buffer.exp()', NETS)}")
    assert 0 < output.floor[1] <= output.floor[0] < 1e-5
    expected = oracle.expected(oracle.declared[0]).outputs[0]
    assert np.allclose(output.value, expected.ravel(), rtol=1e-5)


def test_what_is_written_through_a_view_belongs_to_what_it_was_computed_from(traced):
    def leads_back(index):
        inputs = traced.records[index].inputs
        return index == traced.inputs["x"] or any(leads_back(other) for other in inputs)

    assert leads_back(traced.outputs[0])


def test_values_are_found_by_their_elements(oracle, traced):
    (index,) = traced.outputs
    value = oracle.expected(oracle.declared[0]).outputs[0]
    found, reordered = traced.find(value.reshape(-1, 1), 8.0, UNIT["fp32"])
    assert found == [index]
    assert reordered == []
    found, reordered = traced.find(value[:, ::-1], 8.0, UNIT["fp32"])
    assert (found, reordered) == ([], [index])
    assert traced.find(value * 1.001, 8.0, UNIT["fp32"]) == ([], [])
    assert traced.ratio(value, index, UNIT["fp32"]) < 8
    assert traced.ratio(value * 1.001, index, UNIT["fp32"]) > 100
    assert traced.ratio(value * np.inf, index, UNIT["fp32"]) == math.inf
    assert traced.ratio(value[:1], index, UNIT["fp32"]) is None


def test_beyond_the_memory_allowed_only_sketches_are_kept(oracle):
    short = trace(oracle, oracle.declared[0], limit_bytes=0)
    assert all(record.value is None for record in short.records)
    assert short.note == "PyTorch's later values are known by their statistics only"
    value = oracle.expected(oracle.declared[0]).outputs[0]
    assert short.outputs[0] in short.find(value, 8.0, UNIT["fp32"])[0]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", ["Branches", "Padded"])
def test_branches_of_torch_cond_are_recorded_and_nested_tensors_passed_over(manifest, name):
    oracle = Oracle(load_reference(manifest.models[name]))
    traced = trace(oracle, oracle.declared[0])
    output = traced.records[traced.outputs[0]]
    assert output.operator == "aten.exp"
    assert traced.note == ""
    assert np.allclose(
        output.value, oracle.expected(oracle.declared[0]).outputs[0].ravel(), rtol=1e-5
    )


def test_what_cannot_be_recorded_in_float64_is_in_float32_and_that_is_noted(manifest):
    oracle = Oracle(load_reference(manifest.models["Refusing"]))
    assert oracle.expected(oracle.declared[0]).exact is not None
    traced = trace(oracle, oracle.declared[0])
    assert traced.note == "PyTorch's values are those of float32, which are rounded themselves"
    assert traced.records[traced.outputs[0]].operator == "aten.exp"


@pytest.mark.parametrize(
    ("array", "distinctive"),
    [
        (np.array([0.5, 2.0]), True),
        (np.array([2.0, 2.0]), False),
        (np.array([0.0, 1.0, 1.0]), False),
        (np.array([1, 2]), False),
        (np.array([True, False]), False),
        (np.array([np.nan, 0.5, 2.0]), True),
    ],
)
def test_constants_masks_and_integers_prove_nothing(array, distinctive):
    assert sketch(array).distinctive is distinctive
