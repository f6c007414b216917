"""Sweeps of sizes: another shape, an error, values that are off, at the sizes that have them."""

import dataclasses
import os

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn
from torch.utils._python_dispatch import _get_current_dispatch_mode

from pytest_onnxcheck.engine.checks import sizes
from pytest_onnxcheck.engine.checks.case import measure_case
from pytest_onnxcheck.engine.checks.sizes import run_sweeps
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.session import open_model
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.sections import CaseFile, Input, Output, Tolerance
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
    # at some sizes one element is off
    "a third": """
        third = Div(x, three)
        shape = Shape <start = 1> (x)
        same = Equal(shape, sizes)
        chosen = Cast <to = 1> (same)
        offset = Mul(chosen, offsets)
        moved = ReduceSum (offset)
        y = ScatterND <reduction = "add"> (third, place, moved)
    """,
    # rows of 4, and so an error where n is no multiple of 2
    "fails where odd": """
        rows = Reshape(x, fours)
        doubled = Mul(rows, two)
        shape = Shape(x)
        y = Reshape(doubled, shape)
    """,
}
GRAPHS["a third, by rows"] = GRAPHS["a third"].replace("start = 1", "end = 1")
CONSTANTS = {
    "two": np.float32(2),
    "three": np.float32(3),
    "place": np.int64([[1, 0]]),
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


class Third(nn.Module):
    def forward(self, x):
        return x * (1 / 3)


class Talks(Third):
    def forward(self, x):
        os.write(2, b"what the user says\n")
        return super().forward(x)


class Uncounted(Third):
    def forward(self, x):
        if _get_current_dispatch_mode() is not None:
            raise RuntimeError("no modes here")
        return super().forward(x)


class Watched:
    """An ONNX Runtime session that counts its runs."""

    def __init__(self, handle):
        self._handle = handle
        self.runs = 0

    def run(self, names, inputs):
        self.runs += 1
        return self._handle.run(names, inputs)

    def get_providers(self):
        return self._handle.get_providers()


def session(name, off):
    """An artefact; what it gives at some sizes is off by as much."""
    model = onnx.parser.parse_model(
        '<ir_version: 10, opset_import: ["" : 20]> net (float[r,n] x) => (float[r,m] y) '
        f"{{{GRAPHS[name]}}}"
    )
    values = {
        "sizes": np.int64(list(off or {0: 0})),
        "offsets": np.float32(list((off or {0: 0}).values())),
    }
    for constant, value in (CONSTANTS | values).items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), constant))
    opened = open_model(model.SerializeToString(), BUILTIN_TARGETS["cpu"])
    return dataclasses.replace(opened, handle=Watched(opened.handle))


@pytest.fixture
def run(tmp_path, request, monkeypatch):
    """Sweeps an artefact: what was run, and what is off, by size."""
    kept = getattr(request, "param", 0)  # bytes of what is kept of a size
    monkeypatch.setattr(sizes, "_KEPT_BYTES", kept)
    path = tmp_path / "models.toml"
    path.write_text(BASE, encoding="utf-8")
    base = load_manifest(path).models["net"]

    def make(name, module=None, variant=0, offsets=None, tolerance=None, **fields):
        model = dataclasses.replace(base, **fields)
        shapes = {name: entry.shape for name, entry in model.inputs.items()}
        oracle = Oracle(Reference(model, module or Twice(), shapes))
        opened, chosen = session(name, offsets), model.variants[variant]
        if tolerance is not None:
            chosen = dataclasses.replace(chosen, tolerance=tolerance)

        declared = [measure_case(opened, oracle, chosen, case) for case in oracle.declared]
        before = opened.handle.runs
        (sweep,), off = run_sweeps(opened, oracle, chosen, declared)
        if "rows" not in model.dims:  # else examples that are off are run again, alone
            assert opened.handle.runs - before == len(sweep.ran)
        assert {case.dim for case in off} <= {sweep.dim}
        for case in off:
            assert oracle.case(case.case) is not None  # to be diagnosed
        forgotten = len(oracle._expected) <= len(oracle.declared) + len(off) + 1
        assert forgotten is (kept == 0)
        return sweep, {case.size: case for case in off}

    return make


def test_a_healthy_artefact_is_off_nowhere(run):
    sweep, off = run("as it is")
    assert (sweep.low, sweep.high, sweep.count, sweep.ranged) == (16, 120, 105, True)
    assert sweep.ran == tuple(range(16, 121))
    assert (sweep.stopped, off) == (0, {})


@pytest.mark.parametrize("run", [sizes._KEPT_BYTES], indirect=True)
def test_what_is_small_is_kept_for_other_variants(run):
    sweep, off = run("as it is", dims={"n": (16, 60)}, spans={})
    assert len(sweep.ran) == 45
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


def test_an_artefact_that_fails_at_some_sizes(run):
    _, off = run("fails where odd")
    assert sorted(off) == [*range(17, 120, 2)]
    assert "ONNX Runtime failed on x [2, 17]" in off[17].error


def test_sizes_that_pytorch_refuses_are_left_out(run):
    sweep, off = run("as it is", Twice(refused=50))
    assert (sweep.refused, len(sweep.ran), off) == (2, 103, {})


def test_values_of_what_is_no_better_than_its_data_are_not_compared(run):
    _, off = run("off from 101", variant=1)
    assert off == {}
    _, off = run("cut from 97", variant=1)
    assert sorted(off) == [*range(97, 121)]


def test_sizes_are_run_on_the_cpu_alone():
    opened = session("as it is", None)
    other = dataclasses.replace(opened, target=dataclasses.replace(opened.target, provider="Other"))
    assert run_sweeps(other, None, None, []) == ([], [])


def test_a_dim_whose_values_are_off_everywhere_is_not_run_to_the_end(run):
    class Thrice(nn.Module):
        def forward(self, x):
            return torch.where(torch.arange(x.shape[1]) < 16, 2 * x, 3 * x)

    sweep, off = run("as it is", Thrice(), dims={"n": (16,)})
    assert len(off) == 24
    assert (len(sweep.ran), sweep.stopped) == (25, 24)


def test_a_model_that_cannot_be_counted_is_run_at_no_more_sizes_than_its_time_allows(run):
    sweep, off = run("a third", Uncounted(), dims={"n": (16, 3000)}, spans={})
    assert 20 < len(sweep.ran) < 30
    assert off == {}


def test_one_loud_case_of_the_user_hides_no_fault_at_a_size(run, tmp_path):
    loud = np.random.default_rng(0).normal(0, 1e5, (2, 40)).astype(np.float32)
    np.savez(tmp_path / "loud.npz", x=loud)
    cases = {"loud": CaseFile(file=str(tmp_path / "loud.npz"))}
    _, off = run("a third", Third(), offsets={77: 1e-3}, cases=cases)
    assert sorted(off) == [77]
    assert off[77].outputs[0].floor.ratio > 1000


def test_an_error_that_is_allowed_at_a_size_allows_no_larger_one_at_another(run):
    # in floors: about 7, 11 and 11
    _, off = run("a third", Third(), offsets={50: 6e-7, 55: 1.1e-6, 77: 1.1e-6})
    assert sorted(off) == [55, 77]
    assert all(8 < case.outputs[0].floor.ratio < 14 for case in off.values())


def test_a_quiet_example_that_is_off_at_a_size_is_found(run, tmp_path):
    rows = np.random.default_rng(0).normal(0, 1, (40, 4)).astype(np.float32)
    rows[np.arange(40) % 5 != 0] /= 1000
    np.save(tmp_path / "rows.npy", rows)
    _, off = run(
        "a third, by rows",
        Third(),
        offsets={5: 5e-8},
        dims={"n": (4,), "rows": (2, 6)},
        spans={},
        inputs={"x": Input(shape=("rows", "n"), fill="file", file=str(tmp_path / "rows.npy"))},
        outputs={"y": Output(shape=("rows", "n"))},
    )
    assert sorted(off) == [5]
    floor = off[5].outputs[0].floor
    assert floor.ratio < 8 < floor.row.value


def test_under_thresholds_what_passes_at_a_size_allows_no_more_at_another(run):
    tolerance = Tolerance(policy="fixed", max_abs=[1e-4, 1e-4])
    offsets = {17: 9e-5, 19: 1.7e-4, 50: 1.7e-4}
    _, off = run("a third", Third(), offsets=offsets, tolerance=tolerance)
    assert sorted(off) == [19, 50]
    assert off[19].outputs[0].max_abs == pytest.approx(1.7e-4, rel=0.01)


def test_what_the_users_model_says_on_stderr_is_not_swallowed(run, capfd):
    sweep, _ = run("a third", Talks())
    assert capfd.readouterr().err.count("what the user says") >= len(sweep.ran)
