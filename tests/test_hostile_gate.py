"""Given files made to do harm: each fails its own checks, with words, and no other model's."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest
from project import Project, mlps

GIVEN = """
[models.{name}]
factory = "nets.py:mlp"
onnx = "{name}.onnx"
dims = {{ batch = [1] }}
probe_seconds = 0
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""

#: y is x's first four columns, plus what is left of as many zeros as a constant says
ALLOCATING = """<ir_version: 9, opset_import: ["" : 17]> net
(float[batch, 8] x) => (float[batch, 4] y)
<int64[1] size = {{{size}}}, int64[1] zero = {{0}}, int64[1] four = {{4}}, int64[1] one = {{1}}> {{
    rows = Shape <start = 0, end = 1> (x)
    part = Div(rows, rows)
    wanted = Mul(part, size)
    zeros = ConstantOfShape(wanted)
    left = ReduceSum <keepdims = 0> (zeros)
    cut = Slice(x, zero, four, one)
    y = Add(cut, left)
}}"""


def allocating(path: Path, size: int) -> None:
    onnx.save(onnx.parser.parse_model(ALLOCATING.format(size=size)), path)


@pytest.mark.skipif(
    os.environ.get("ONNXCHECK_ISOLATION") != "required", reason="slow: tox run -e isolation"
)
def test_giant_allocations_at_run_time_fail_their_own_model(project: Project):
    allocating(project.path / "held.onnx", 2**31)
    limited = GIVEN.format(name="held") + "isolate = true\nmemory_mb = 1500\n"
    project.manifest(limited + mlps("last"))
    assert project.run("-k", "equivalence").ret == 1
    outcomes = project.outcomes()
    assert [outcomes[node] for node in outcomes if node.startswith("last")] == ["passed"]
    reason = project.reason("held::file-fp32::test_equivalence[cpu]")
    # whichever meets the limit first: what allocates, or who watches it
    assert "Failed to allocate memory" in reason or "may hold 1500 MB" in reason


def test_files_that_mean_nothing_fail_once_and_leave_the_others_alone(project: Project):
    allocating(project.path / "net.onnx", 1)
    model = onnx.load(project.path / "net.onnx")
    model.graph.node[1].input[0] = "y"
    onnx.save(model, project.path / "circle.onnx")
    (project.path / "cut.onnx").write_bytes((project.path / "net.onnx").read_bytes()[:-40])
    project.manifest(mlps("first") + GIVEN.format(name="circle") + GIVEN.format(name="cut"))
    result = project.run("-k", "export or structure")
    assert result.ret == 1
    assert not any("Traceback" in line for line in result.outlines)
    assert project.outcomes() == {
        "first::torchscript-op17-fp32::test_export": "passed",
        "first::torchscript-op17-fp32::test_structure": "passed",
        "circle::file-fp32::test_export": "failed",
        "circle::file-fp32::test_structure": "skipped",
        "cut::file-fp32::test_export": "failed",
        "cut::file-fp32::test_structure": "skipped",
    }
    reason = project.reason("circle::file-fp32::test_export")
    assert "circle.onnx: not a valid ONNX file: nodes wait for one another in a circle" in reason
    assert "cut.onnx: not an ONNX file" in project.reason("cut::file-fp32::test_export")


def test_weights_that_are_nan_are_told(project: Project):
    nets = project.path / "nets.py"
    nets.write_text(
        f"{nets.read_text()}\n\ndef nan():\n    net = mlp()\n"
        "    nn.init.constant_(net[2].weight, float('nan'))\n    return net\n"
    )
    project.manifest(mlps("net").replace("mlp", "nan"))
    assert project.run("-k", "equivalence").ret == 1
    reason = project.reason("net::torchscript-op17-fp32::test_equivalence[cpu]")
    assert "nothing was compared: PyTorch itself gives NaN in all elements" in reason
