"""Which sizes are run: all that the time allows, the smallest and some that are spread."""

import dataclasses

import pytest

from pytest_onnxcheck.engine.inputs.sizes import plan_sweeps
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.sections import Input

BASE = """
schema = 1
[models.net]
factory = "net.py:make"
[models.net.inputs.x]
shape = [1]
[models.net.outputs.out]
shape = [1]
"""


def cheap(elements):
    return 1e-5


def costly(elements):
    return 1e-3 * elements


@pytest.fixture
def reference(tmp_path):
    """Makes a reference over one input of the given shape."""

    def make(shape, dims, **fields):
        path = tmp_path / "models.toml"
        path.write_text(BASE, encoding="utf-8")
        model = load_manifest(path).models["net"]
        inputs = {"x": Input(shape=shape)}
        model = dataclasses.replace(model, inputs=inputs, dims=dims, **fields)
        return Reference(model, None, {"x": shape})

    return make


def test_every_size_is_run_where_runs_are_cheap(reference):
    dims = {"batch": (1, 3), "time": (4, 16)}
    made = reference(("batch", "time"), dims)
    batch, time = plan_sweeps(made, cheap)
    assert (batch.dim, sorted(batch.probes)) == ("batch", [1, 2, 3])
    assert (time.dim, sorted(time.probes)) == ("time", [*range(4, 17)])
    probe = time.probes[7]
    assert (probe.name, probe.dims) == ("sweep:time=7/batch=3", {"batch": 3, "time": 7})
    assert probe.case(made).inputs["x"].shape == (3, 7)


def test_the_steps_of_a_range_are_kept(reference):
    spans = {"n": range(32, 129, 32)}
    made = reference(("n",), {"n": (32, 128)}, spans=spans)
    (sweep,) = plan_sweeps(made, cheap)
    assert sorted(sweep.probes) == [32, 64, 96, 128]


def test_where_all_sizes_were_declared_nothing_is_run_again(reference):
    assert plan_sweeps(reference(("a", "b"), {"a": (1, 2), "b": (7,)}), cheap) == []


def test_dims_of_outputs_alone_are_not_swept(reference):
    assert plan_sweeps(reference((4,), {"found": (1, 9)}), cheap) == []


def test_what_is_costly_is_run_at_the_smallest_sizes_and_at_some_between(reference):
    made = reference(("n",), {"n": (1, 1000)})
    (sweep,) = plan_sweeps(made, costly)
    sizes = sorted(sweep.probes)
    assert sizes[:8] == [*range(1, 9)]
    assert 15 < len(sizes) < 60
    assert max(sizes) >= 250
    assert plan_sweeps(made, costly) == [sweep]


def test_a_dim_of_few_sizes_leaves_its_time_to_the_others(reference):
    alone, beside = (
        plan_sweeps(reference(shape, dims), lambda elements: 0.05)[-1]
        for shape, dims in (
            (("n",), {"n": (2, 500)}),
            (("batch", "n"), {"batch": (2, 4), "n": (2, 500)}),
        )
    )
    assert len(beside.probes) == len(alone.probes) - 3


def test_a_range_of_a_million_sizes_is_no_burden(reference):
    made = reference(("n",), {"n": (16_000, 1_600_000)})
    (sweep,) = plan_sweeps(made, lambda elements: elements / 16e6)
    assert 16_000 in sweep.probes
    assert 100 < len(sweep.probes) < 2000


def test_more_time_runs_more_and_none_runs_nothing(reference):
    few, many = (
        plan_sweeps(reference(("n",), {"n": (1, 500)}, probe_seconds=seconds), costly)
        for seconds in (0.5, 50)
    )
    assert len(few[0].probes) < len(many[0].probes)
    assert plan_sweeps(reference(("n",), {"n": (1, 500)}, probe_seconds=0), costly) == []
