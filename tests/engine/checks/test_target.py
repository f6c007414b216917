"""Who runs the nodes: what ONNX Runtime says of a session, as a measurement."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks import target
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import Target

#: in every onnxruntime, and without kernels of its own for standard operators
AZURE = Target("azure", "AzureExecutionProvider")

GRAPH = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[2, 8] x) => (float[2, 4] y)
<float[8, 4] w = {%s}>
{
    [first] r = Relu (x)
    [second] y = MatMul (r, w)
}
"""
NETS = "from torch import nn\n\ndef net():\n    return nn.Linear(8, 4)\n"
MANIFEST = """
schema = 1
[models.net]
factory = "nets_target.py:net"
inputs.x.shape = [2, 8]
outputs.y.shape = [2, 4]
"""


@pytest.fixture
def made(tmp_path: Path):
    """A reference and an artefact of two nodes."""
    (tmp_path / "nets_target.py").write_text(NETS)
    (tmp_path / "models.toml").write_text(MANIFEST)
    model = load_manifest(tmp_path / "models.toml").models["net"]
    graph = onnx.parser.parse_model(GRAPH % ", ".join(["0.5"] * 32))
    onnx.save(graph, tmp_path / "net.onnx")
    return Artefact.given(tmp_path / "net.onnx"), load_reference(model)


def test_a_provider_that_takes_nothing_leaves_all_nodes_to_the_cpu(made):
    artefact, reference = made
    measured = target.measure(artefact, reference, AZURE)
    assert measured.before[0] == measured.after[0] == "AzureExecutionProvider"
    assert measured.nodes == {"CPUExecutionProvider": 2}
    assert [(node.operator, node.multiplies) for node in measured.fallen] == [
        ("Relu", False),
        ("MatMul", True),
    ]
    assert (measured.multiplying, measured.compute) == (1, 1.0)
    assert measured.target == "azure"


def test_the_manifests_options_hold_while_nodes_are_told(made):
    artefact, reference = made
    wrong = Target("azure", AZURE.provider, {}, {"session.disable_cpu_ep_fallback": "1"})
    with pytest.raises(RunError, match="fallback to CPU EP has been explicitly disabled"):
        target.measure(artefact, reference, wrong)
