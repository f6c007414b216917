"""What is made of the rounds, which side waited and for what; when it is decided."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks import latency
from pytest_onnxcheck.engine.checks.latency import decision_times
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.engine.speed.sides import open_sides
from pytest_onnxcheck.engine.speed.timing import Rounds
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU, Target

GRAPH = (
    '<ir_version: 8, opset_import: ["" : 17]> g (float[2, 8] x) => (float[2, 8] y) { y = Neg (x) }'
)
NETS = "from torch import nn\n\ndef net():\n    return nn.Identity()\n"
MANIFEST = """
schema = 1
[models.net]
factory = "nets_sides.py:net"
inputs.x.shape = [2, 8]
outputs.y.shape = [2, 8]
"""
#: on an accelerator, though its nodes fall to the CPU
AZURE = Target("azure", "AzureExecutionProvider")

#: wall, thread and process seconds of a call that worked, was interrupted, waited for a device
WORKED, INTERRUPTED, WAITED = (1.0, 1.0, 1.0), (2.0, 1.0, 1.0), (1.0, 0.1, 0.1)


@pytest.fixture
def timed(tmp_path: Path, monkeypatch):
    """Times a model on a target, with the rounds given: torch, onnxruntime, kernel."""
    (tmp_path / "nets_sides.py").write_text(NETS)
    (tmp_path / "models.toml").write_text(MANIFEST)
    onnx.save(onnx.parser.parse_model(GRAPH), tmp_path / "net.onnx")
    artefact = Artefact.given(tmp_path / "net.onnx")
    reference = load_reference(load_manifest(tmp_path / "models.toml").models["net"])

    def timed(target: Target, *rows):
        rounds = Rounds(3)
        for row in rows:
            rounds.add(dict(enumerate(row)))
        monkeypatch.setattr(latency, "interleave", lambda *args: rounds)
        sides = open_sides(artefact, artefact, reference, target)
        return latency.timed(sides, reference, {}, 0.1)

    return timed


def test_each_side_tells_how_often_it_was_interrupted(timed):
    found = timed(CPU, *[(WORKED, WORKED, WORKED)] * 30, *[(INTERRUPTED, WORKED, INTERRUPTED)] * 10)
    sides = (found.torch, found.onnxruntime, found.kernel)
    assert [side.interrupted for side in sides] == [0.25, 0.0, 0.25]
    assert {name: ratio.interrupted for name, ratio in found.ratios.items()} == {
        "torch": 0.25,
        "kernel": 0.25,
    }


def test_only_an_accelerator_waits(timed):
    rows = [(WORKED, WAITED, WORKED)] * 30
    assert timed(AZURE, *rows).onnxruntime.interrupted == 0.0
    assert timed(CPU, *rows).onnxruntime.interrupted == 1.0
    # PyTorch beside it is on the CPU
    assert timed(AZURE, *[(WAITED, WAITED, WORKED)] * 30).torch.interrupted == 1.0


def test_it_is_decided_after_a_quarter_a_half_all_and_more():
    assert decision_times(2.0, 6.0) == [0.5, 1.0, 2.0, 4.0, 6.0]
    assert decision_times(2.0, 8.0) == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert decision_times(2.0, 1.0) == [0.5, 1.0, 2.0]
