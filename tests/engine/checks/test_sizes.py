"""Sweeps of sizes: another shape, an error, values that are off, at the sizes that have them."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from pytest_onnxcheck.engine.checks.case import measure_case
from pytest_onnxcheck.engine.checks.sizes import swept
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.session import open_model
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS

BASE = """
schema = 1
[models.net]
factory = "net.py:make"
precisions = ["fp32", "int8-dynamic"]
dims = { n = { from = 16, to = 120 } }
inputs.x.shape = [2, "n"]
outputs.y.shape = [2, "n"]
"""

#: what the artefacts compute, from the number of columns `n` of x
GRAPHS = {
    "as it is": "y = Mul(x, two)",
    # what lies behind place 100 stays as it is
    "off from 101": """
        head = Slice(x, zero, hundred, one, one)
        tail = Slice(x, hundred, end, one, one)
        doubled = Mul(head, two)
        y = Concat <axis = 1> (doubled, tail)
    """,
    # 96 columns at most
    "cut from 97": """
        head = Slice(x, zero, most, one, one)
        y = Mul(head, two)
    """,
    # rows of 4, and so an error where n is no multiple of 2
    "fails where odd": """
        rows = Reshape(x, fours)
        doubled = Mul(rows, two)
        shape = Shape(x)
        y = Reshape(doubled, shape)
    """,
}
CONSTANTS = {
    "two": np.float32(2),
    "zero": np.int64([0]),
    "one": np.int64([1]),
    "hundred": np.int64([100]),
    "most": np.int64([96]),
    "end": np.int64([2**40]),
    "fours": np.int64([-1, 4]),
}


class Twice(nn.Module):
    """Refuses multiples of a number."""

    def __init__(self, refused=1000):
        super().__init__()
        self.refused = refused

    def forward(self, x):
        if x.shape[1] % self.refused == 0:
            raise ValueError("no such size")
        return 2 * x


def session(name):
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> net (float[2,n] x) => (float[2,m] y) '
        f"{{{GRAPHS[name]}}}"
    )
    for constant, value in CONSTANTS.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), constant))
    return open_model(model.SerializeToString(), BUILTIN_TARGETS["cpu"])


@pytest.fixture
def run(tmp_path):
    """Sweeps an artefact: what was run, and what is off, by size."""
    path = tmp_path / "models.toml"
    path.write_text(BASE, encoding="utf-8")
    base = load_manifest(path).models["net"]

    def make(name, module=None, variant=0, **fields):
        model = dataclasses.replace(base, **fields)
        shapes = {name: entry.shape for name, entry in model.inputs.items()}
        oracle = Oracle(Reference(model, module or Twice(), shapes))
        opened, chosen = session(name), model.variants[variant]

        def measure(case):
            return measure_case(opened, oracle, chosen, case)

        declared = [measure(case) for case in oracle.declared]
        (sweep,), off = swept(opened, oracle, chosen, declared, measure)
        assert {case.dim for case in off} <= {"n"}
        for case in off:
            assert oracle.case(case.case) is not None  # to be diagnosed
        assert len(oracle._expected) <= len(oracle.declared) + len(off) + 1
        return sweep, {case.size: case for case in off}

    return make


def test_a_healthy_artefact_is_off_nowhere(run):
    sweep, off = run("as it is")
    assert (sweep.low, sweep.high, sweep.count, sweep.ranged) == (16, 120, 105, True)
    assert sweep.ran == tuple(range(16, 121))
    assert off == {}


def test_another_shape_is_found_at_every_size_that_has_it(run):
    _, off = run("cut from 97")
    assert sorted(off) == [*range(97, 121)]
    (output,) = off[98].outputs
    assert (output.expected_shape, output.actual_shape) == ((2, 98), (2, 96))


def test_values_that_are_off_are_found_at_every_size_that_has_them(run):
    _, off = run("off from 101")
    assert sorted(off) == [*range(101, 121)]
    (output,) = off[101].outputs
    assert output.floor.ratio > 8


def test_an_artefact_that_fails_at_some_sizes(run, capfd):
    _, off = run("fails where odd")
    assert sorted(off) == [*range(17, 120, 2)]
    assert "ONNX Runtime failed on x [2, 17]" in off[17].error
    assert "{2,17}" not in capfd.readouterr().err


def test_sizes_that_pytorch_refuses_are_left_out(run):
    sweep, off = run("as it is", Twice(refused=50))
    assert (sweep.refused, len(sweep.ran), off) == (2, 103, {})


def test_values_of_what_is_no_better_than_its_data_are_not_compared(run):
    _, off = run("off from 101", variant=1)
    assert off == {}
    _, off = run("cut from 97", variant=1)
    assert sorted(off) == [*range(97, 121)]


def test_sizes_are_run_on_the_cpu_alone():
    opened = session("as it is")
    other = dataclasses.replace(opened, target=dataclasses.replace(opened.target, provider="Other"))
    assert swept(other, None, None, [], None) == ([], [])


def test_a_dim_whose_values_are_off_everywhere_is_not_run_to_the_end(run):
    class Thrice(nn.Module):
        def forward(self, x):
            return torch.where(torch.arange(x.shape[1]) < 16, 2 * x, 3 * x)

    sweep, off = run("as it is", Thrice(), dims={"n": (16,)})
    assert len(off) == 24
    assert len(sweep.ran) == 25
