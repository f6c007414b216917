"""Suspicious examples of a batch, by themselves; through real sessions."""

import numpy as np
import pytest
import torch
from small_models import save
from torch import nn

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks.case import compare_outputs, measure_case
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.engine.reference.reference import Reference
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU

MANIFEST = """
schema = 1
[models.net]
factory = "net.py:make"
precisions = ["fp32", "int8-dynamic"]
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 4]
outputs.y.shape = ["batch", 4]
"""

#: y = x in 8 bits, with one scale for the whole batch
DYNAMIC = """(float[N,4] x) => (float[N,4] y) {
    q, s, z = DynamicQuantizeLinear(x)
    y = DequantizeLinear(q, s, z)
}"""
#: the same with a scale that is written down
FIXED = """(float[N,4] x) => (float[N,4] y) {
    q = QuantizeLinear(x, s, z)
    y = DequantizeLinear(q, s, z)
}"""

LOUD_AND_QUIET = np.float32(
    [[1, -1, 0.5, 0.3], [0.9, 0.8, -0.7, 0.1], [0.004, 0.002, -0.003, 0.001]]
)


class Identity(nn.Module):
    def forward(self, x):
        return x + 0.0


class Running(nn.Module):
    """Its examples are steps: each changes those after it."""

    def forward(self, x):
        return x + 1e-3 * x.cumsum(0).flip(-1)


@pytest.fixture
def measured(tmp_path):
    """What is measured of an artefact of a module, on one loud and quiet batch."""

    def make(
        module,
        text,
        precision="int8-dynamic",
        *,
        tolerance="",
        by_hand=False,
        probe=False,
        **constants,
    ):
        path = tmp_path / "models.toml"
        path.write_text(MANIFEST + tolerance)
        model = load_manifest(path).models["net"]
        (variant,) = [entry for entry in model.variants if entry.precision == precision]
        oracle = Oracle(Reference(model, module.eval(), {"x": ("batch", 4)}))
        artefact = Artefact.given(save(tmp_path / "m.onnx", text, **constants))
        case = Case("case", {"x": LOUD_AND_QUIET.copy()}, probe=probe)
        session = open_session(artefact, CPU)
        if by_hand:
            actual = dict(zip(session.outputs, session.run(case.inputs), strict=True))
            found = compare_outputs(oracle, variant, case, oracle.expected(case), actual)
        else:
            found = measure_case(session, oracle, variant, case)
        assert list(oracle._expected) == ["batch=1/draw0", "batch=3/draw0", "case"]
        (output,) = found.outputs
        return output

    return make


def rows(output):
    return {row.metric: row for row in output.rows}


def test_an_example_that_others_drown_is_right_alone(measured):
    row = rows(measured(Identity(), DYNAMIC))["rel_rms"]
    assert (row.index, row.loudest) == (2, 0)
    assert row.value > 0.35
    assert row.alone < 0.02


def test_an_example_that_is_lost_is_lost_alone_too(measured):
    scale = {"s": np.float32(1 / 127), "z": np.int8(0)}
    row = rows(measured(Identity(), FIXED, **scale))["rel_rms"]
    assert row.index == 2
    assert row.alone == pytest.approx(row.value)
    assert row.value > 0.35


def test_what_is_right_is_not_run_again(measured):
    row = rows(measured(Identity(), "(float[N,4] x) => (float[N,4] y) { y = Identity(x) }"))
    assert (row["rel_rms"].value, row["rel_rms"].alone) == (0.0, None)


def test_steps_that_change_each_other_are_no_examples(measured):
    assert rows(measured(Running(), DYNAMIC)) == {}


def test_a_quiet_example_in_floors(measured):
    output = measured(Identity(), DYNAMIC, precision="fp32")
    row = output.floor.row
    assert (row.metric, row.index) == ("floors", 2)
    assert row.value > 1000
    assert row.alone > 8  # 8 bits are no rounding of float32


def test_a_quiet_example_of_a_probe_in_floors_under_thresholds_alone(measured):
    tolerance = "tolerance.fp32 = { policy = 'fixed', max_abs = 1e-6 }"
    output = measured(Identity(), DYNAMIC, precision="fp32", tolerance=tolerance, probe=True)
    assert output.floor.row.alone > 8


def test_what_no_session_gave_has_examples_too(measured):
    row = rows(measured(Identity(), DYNAMIC, by_hand=True))["rel_rms"]
    assert row.value > 0.35
    assert row.alone is None
    assert rows(measured(Running(), DYNAMIC, by_hand=True)) == {}


class Threads(Identity):
    """Notes how many threads it may use."""

    def forward(self, x):
        THREADS.append(torch.get_num_threads())
        return super().forward(x)


THREADS = []


def test_copies_are_run_as_all_cases_are(measured):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        row = rows(measured(Threads(), DYNAMIC))["rel_rms"]
    finally:
        torch.set_num_threads(threads)
    assert row.alone is not None
    assert set(THREADS) == {1}
