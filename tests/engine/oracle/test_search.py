"""Search: faults that ordinary draws do not meet are found, and shrunk."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from clock import Ticking, ticking

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks.case import measure_case
from pytest_onnxcheck.engine.convert.export import export
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.oracle.search import search
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.errors import InputError, OnnxCheckError
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU
from pytest_onnxcheck.measurement import EquivalenceMeasurement

NETS = """
from torch import nn


class First(nn.Module):
    def forward(self, x, *others):
        return x + 0


class Branch(nn.Module):
    \"\"\"The tracer keeps the branch that its example takes.\"\"\"

    def forward(self, x):
        return x * 2 if x.sum() > 50 else x
"""

#: more than any of these searches needs; those that find nothing end before, or name their own
ENOUGH = 60


@pytest.fixture(autouse=True)
def clock(monkeypatch) -> Ticking:
    """Each look at it takes a millisecond."""
    return ticking(monkeypatch)


@pytest.fixture
def oracle(tmp_path):
    """Makes the oracle of a model with the given inputs, whose output is the first of them."""

    def make(inputs, dims="", *, factory="First"):
        (tmp_path / "nets.py").write_text(NETS)
        tables = "\n".join(f"[models.net.inputs.{name}]\n{keys}" for name, keys in inputs.items())
        first = [line for line in next(iter(inputs.values())).splitlines() if "range" not in line]
        (tmp_path / "models.toml").write_text(
            "schema = 1\n[defaults]\nexporters = ['torchscript']\nopsets = [17]\n"
            f'[models.net]\nfactory = "nets.py:{factory}"\ndims = {{ {dims} }}\n{tables}\n'
            f"[models.net.outputs.y]\nshape = {first[0].partition('=')[2]}\n"
        )
        manifest = load_manifest(tmp_path / "models.toml")
        manifest.check()
        return Oracle(load_reference(manifest.models["net"]))

    return make


def fails_if(predicate):
    return lambda case: "planted" if predicate(case.inputs) else None


def equal(left, right):
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def test_a_rare_value_of_a_small_array(oracle):
    made = oracle({"x": 'shape = ["batch", 4]'}, "batch = [1, 8]")
    found = search(made, ENOUGH, fails_if(lambda inputs: (inputs["x"] < -7).any()))
    assert found is not None
    assert (found.problem, found.tried > 0) == ("planted", True)
    x = found.case.inputs["x"]
    assert (x.shape, x.dtype.name) == ((1, 4), "float32")
    assert sorted(x.ravel().tolist()) == [-8, 0, 0, 0]
    assert found.case.name.startswith("search:")
    assert found.case.name.endswith("/batch=1")
    assert found.case.probe


def test_a_rare_value_of_a_large_array(oracle):
    made = oracle({"x": 'shape = ["batch", 1000]'}, "batch = [1, 8]")
    found = search(made, ENOUGH, fails_if(lambda inputs: (inputs["x"] > 8).any()))
    x = found.case.inputs["x"]
    assert x.shape == (1, 1000)
    *others, largest = sorted(x.ravel().tolist())
    assert others[-1] == 0
    assert 8 < largest < 10


SIZES = [(batch, time, 2) for batch in (3, 5, 7) for time in range(9, 50)]


def test_a_size_nobody_declared(oracle):
    made = oracle({"x": 'shape = ["batch", "time", 2]'}, "batch = [1, 8], time = [1, 50]")
    found = search(made, ENOUGH, fails_if(lambda inputs: inputs["x"].shape in SIZES))
    x = found.case.inputs["x"]
    assert x.shape == (3, 9, 2)
    assert not x.any()
    assert found.case.name.endswith("/batch=3/time=9")


@pytest.mark.parametrize("size", [3, 300])
def test_the_top_of_a_range(oracle, size):
    made = oracle({"x": f'shape = [{size}]\ndtype = "int64"\nrange = [-5, 30521]'})
    found = search(made, ENOUGH, fails_if(lambda inputs: (inputs["x"] == 30521).any()))
    x = found.case.inputs["x"]
    assert x.dtype.name == "int64"
    assert sorted(x.tolist())[-2:] == [0, 30521]
    assert not x.min()


def test_one_fault_of_two_inputs(oracle):
    inputs = {"x": "shape = [100]", "mask": 'shape = [3]\ndtype = "bool"'}
    made = oracle(inputs)
    found = search(
        made, ENOUGH, fails_if(lambda inputs: inputs["mask"].any() and inputs["x"].sum() > 90)
    )
    assert found.case.inputs["mask"].sum() == 1
    assert found.case.inputs["mask"].dtype.name == "bool"
    x = found.case.inputs["x"]
    assert 90 < x.sum() < 200


def test_the_same_search_finds_the_same(oracle):
    made = oracle({"x": 'shape = ["batch", 40]'}, "batch = [1, 4]")
    problem = fails_if(lambda inputs: np.abs(inputs["x"]).sum() > 300)
    one, other = (search(made, ENOUGH, problem) for _ in range(2))
    assert equal(one.case.inputs, other.case.inputs)
    assert (one.case.name, one.tried) == (other.case.name, other.tried)


def test_every_case_is_within_what_is_declared(oracle):
    made = oracle(
        {
            "x": 'shape = ["batch", 3]\nrange = [-0.1, 2.3]',
            "free": 'shape = [70]\nmean = 100\nstd = 0.5\ndtype = "float64"',
            "half": 'shape = []\ndtype = "float16"\nstd = 1e4',
            "ids": 'shape = ["batch"]\ndtype = "uint8"\nrange = [3, 9]',
            "whole": 'shape = [2]\nfill = "integers"\nrange = [-2, 2]',
            "fixed": 'shape = [2]\nfill = "constant"\nvalue = 7',
            "point": 'shape = [2]\nfill = "uniform"\nrange = [4, 4]',
        },
        "batch = [2, 5]",
    )
    names = set()

    def problem(case):
        x, free, half, ids, whole, fixed, point = case.inputs.values()
        assert 2 <= len(x) <= 5
        assert len(x) == len(ids)
        assert x.min() >= np.float32(-0.1)
        assert x.max() <= np.float32(2.3)
        assert np.abs(free - 100).max() <= 32
        assert half.shape == ()
        assert np.isfinite(half)
        assert set(ids.tolist()) <= set(range(3, 10))
        assert set(whole.tolist()) <= {-2, -1, 0, 1, 2}
        assert (fixed == 7).all()
        assert (point == 4).all()
        assert all(array.flags.c_contiguous for array in case.inputs.values())
        for name, entry in made.reference.model.inputs.items():
            assert case.inputs[name].dtype.name == entry.dtype
        names.add(case.name)

    assert search(made, 0.2, problem) is None
    assert len(names) > 10


@pytest.mark.parametrize("size", [2, 200])
@pytest.mark.parametrize("allowed", ["true", "false"])
def test_nan_only_where_it_may_occur(oracle, size, allowed):
    made = oracle({"x": f"shape = [{size}]\nnonfinite = {allowed}"})
    found = search(
        made,
        ENOUGH if allowed == "true" else 0.2,
        fails_if(lambda inputs: not np.isfinite(inputs["x"]).all()),
    )
    assert (found is not None) == (allowed == "true")


def test_inputs_from_a_file_are_its_rows(oracle, tmp_path):
    rows = np.arange(20, dtype="float32").reshape(10, 2)
    np.save(tmp_path / "rows.npy", rows)
    made = oracle({"x": 'shape = ["batch", 2]\nfill = "file"\nfile = "rows.npy"'}, "batch = [1, 2]")
    seen = set()
    search(made, 0.3, lambda case: seen.update(map(tuple, case.inputs["x"].tolist())))
    assert seen == set(map(tuple, rows.tolist()))
    found = search(made, ENOUGH, fails_if(lambda inputs: (inputs["x"] == 13).any()))
    x = found.case.inputs["x"]
    assert (x == 13).any()
    assert set(map(tuple, x.tolist())) <= seen


def test_files_that_do_not_fit_other_sizes_are_left_out(oracle, tmp_path):
    np.save(tmp_path / "rows.npy", np.zeros((4, 7), "float32"))
    made = oracle({"x": 'shape = ["batch", 7]\nfill = "file"\nfile = "rows.npy"'}, "batch = [1, 3]")
    np.save(tmp_path / "rows.npy", np.zeros((4, 8), "float32"))  # nothing fits any more
    assert search(made, 0.2, lambda case: "never run") is None


def test_nothing_found_is_none(oracle):
    made = oracle({"x": "shape = [4]"})
    assert search(made, 0.3, lambda case: None) is None
    assert search(made, 0.0, lambda case: "never run") is None


def test_a_space_without_more_to_try_ends_the_search(oracle):
    made = oracle({"x": "shape = [4]\nfill = 'constant'\nvalue = 1"}, "")
    tried = []
    assert search(made, ENOUGH, tried.append) is None
    assert len(tried) == 1


def test_inputs_pytorch_does_not_take_are_no_failures(oracle):
    made = oracle({"x": 'shape = ["batch", 2]'}, "batch = [1, 5]")

    def problem(case):
        if len(case.inputs["x"]) < 4:
            raise InputError("too small")
        return "planted"

    assert search(made, ENOUGH, problem).case.inputs["x"].shape == (4, 2)


def test_what_goes_wrong_in_measuring_is_raised_at_once(oracle):
    made = oracle({"x": "shape = [2]"})
    calls = []

    def problem(case):
        calls.append(case)
        raise ZeroDivisionError("a bug of ours")

    with pytest.raises(ZeroDivisionError, match="a bug of ours"):
        search(made, ENOUGH, problem)
    assert len(calls) == 1


def test_a_failure_that_comes_and_goes_is_kept(oracle):
    made = oracle({"x": 'shape = ["batch", 2]'}, "batch = [1, 9]")
    first = []

    def problem(case):
        first.append(case)
        return "only once" if len(first) == 7 else None

    found = search(made, ENOUGH, problem)
    assert found.problem == "only once"
    assert found.case is first[6]


def test_time_that_runs_out_loses_nothing(oracle, clock: Ticking):
    made = oracle({"x": 'shape = ["batch", 20]'}, "batch = [1, 64]")
    failing = []

    def problem(case):
        clock.now += 0.02
        if case.inputs["x"].size > 100 and np.abs(case.inputs["x"]).sum() > 5:
            failing.append(case)
            return "planted"
        return None

    started = clock.now
    found = search(made, 1.0, problem)
    assert clock.now - started < 1.3  # with a quarter of the time more to shrink it
    smallest = min(
        (case.inputs["x"].size, float(np.abs(case.inputs["x"]).sum())) for case in failing
    )
    x = found.case.inputs["x"]
    assert x.size == smallest[0]


def test_nothing_is_kept_of_the_cases(oracle):
    made = oracle({"x": "shape = [2]"})
    before = set(made._expected)
    search(made, 0.3, lambda case: made.expected(case) and None)
    assert set(made._expected) == before


def test_without_hypothesis_it_says_what_to_install(oracle, monkeypatch):
    made = oracle({"x": "shape = [2]"})
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(OnnxCheckError, match="pip install hypothesis"):
        search(made, 1.0, lambda case: None)


def test_a_branch_that_the_tracer_froze(oracle, tmp_path):
    made = oracle({"x": 'shape = ["batch", 16]'}, "batch = [1, 4]", factory="Branch")
    (variant,) = made.reference.model.variants
    export(made.reference, variant, tmp_path / "net.onnx")
    session = open_session(Artefact.given(tmp_path / "net.onnx"), CPU)

    def problem(case):
        measured = measure_case(session, made, variant, case)
        if measured is None:
            return None
        whole = EquivalenceMeasurement("cpu", session.provider, (measured,))
        return judge.failure(whole, variant)

    assert not any(problem(case) for case in made.declared)
    found = search(made, ENOUGH, problem)
    assert found.problem.startswith("output 'y'")
    x = found.case.inputs["x"]
    assert x.shape[0] in (1, 4)
    assert 50 < x.sum() < 60
    assert problem(found.case) == found.problem


STEP = {
    "x": 'shape = ["batch", "past + new", 2]',
    "cache": 'shape = ["batch", "past", 2]',
}


def test_a_search_among_sizes_of_0_and_expressions(oracle):
    made = oracle(STEP, "batch = [0, 4], past = [0, 9], new = [1, 6]")
    shapes = []

    def problem(inputs):
        x, cache = inputs["x"], inputs["cache"]
        shapes.append((x.shape[0] == cache.shape[0], x.shape[1] - cache.shape[1], cache.size))
        return not cache.size and (x > 4).any()

    found = search(made, ENOUGH, fails_if(problem))
    assert all(same and 1 <= new <= 6 for same, new, _ in shapes)
    assert {bool(size) for *_, size in shapes} == {True, False}
    assert found.case.inputs["cache"].size == 0
    *zeros, largest = sorted(found.case.inputs["x"].ravel().tolist())
    assert (set(zeros) <= {0}, largest > 4) == (True, True)
    assert "/batch=1/past=0/new=" in found.case.name  # new stands in an expression: it is not cut


def test_a_dim_that_no_expression_has_is_cut_beside_one(oracle):
    made = oracle(STEP, "batch = [0, 4], past = [2, 9], new = [1, 6]")
    found = search(made, ENOUGH, fails_if(lambda inputs: (inputs["x"] > 4).any()))
    assert len(found.case.inputs["x"]) == 1
