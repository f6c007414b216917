"""The gate on targets in JavaScript."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto as Proto
from onnx import helper
from project import Project, mlps

TARGETS = """
targets = ["cpu", "node", "web", "chromium"]
required_targets = ["node", "web", "chromium"]
[targets.node]
runtime = "onnxruntime-node"
[targets.web]
runtime = "onnxruntime-web"
[targets.chromium]
browser = "chromium"
[targets.webgpu]
browser = "chromium"
provider = "WebGpuExecutionProvider"
"""

NAMES = ("cpu", "node", "web", "chromium")

NETS = """
import torch
from torch import nn


class Counter(nn.Module):
    def forward(self, x):
        return x + 1


def counter():
    return Counter().eval()
"""

#: numbers beyond 2^53, of which float64 has every other one
COUNTER = """
[models.counter]
factory = "nets.py:counter"
{given}
inputs.x = {{ shape = [8], dtype = "int64", range = [9007199254740993, 9007199254741993] }}
outputs.y.shape = [8]
"""


@pytest.fixture
def gated(project: Project, kept: Path) -> Project:
    """A project whose packages are the ones that are there."""
    folder = project.path / ".onnxcheck"
    folder.mkdir()
    (folder / ".environments").symlink_to(kept)
    return project


def told(project: Project, check: str, model: str = "net") -> dict[str, str]:
    """Target -> outcome of a check."""
    return {
        name.rpartition("[")[2].rstrip("]"): outcome
        for name, outcome in project.outcomes().items()
        if f"::test_{check}[" in name and name.startswith(model)
    }


def test_all_of_them_in_one_record(gated: Project, packages: Path):
    gated.manifest(mlps("net"), TARGETS)
    assert gated.run("-m", "not latency").ret == 0
    assert told(gated, "equivalence") == dict.fromkeys(NAMES, "passed")
    versions = {
        check["target"]: check["environment"] for check in gated.record["checks"] if check["target"]
    }
    assert versions["cpu"] == {}
    assert versions["node"].keys() == {"onnxruntime-node", "node"}
    assert versions["web"].keys() == {"onnxruntime-web", "node"}
    assert versions["chromium"].keys() == {"onnxruntime-web", "node", "browser"}


def test_speed_there(gated: Project, packages: Path):
    gated.manifest(mlps("net"), TARGETS + "[defaults.latency]\nseconds = 0.5\nlongest = 0.5\n")
    gated.run("-m", "latency", "--onnxcheck-target=web", "--onnxcheck-target=chromium")
    assert len(told(gated, "latency")) == 4
    for check in gated.record["checks"]:
        measured = check["measurement"]
        assert measured["kernel_name"].startswith("JavaScript")
        assert measured["onnxruntime"]["median"] > 0
        assert measured["load_seconds"] > 0
        assert 0 < measured["transferred_bytes"] < 1500
        # where the machine is busy, node's threads leave no processor time to compare
        clocks = ("wall",) if check["target"] == "chromium" else ("processor", "wall")
        assert measured["ratios"]["torch"]["clock"] in clocks


def test_float16(gated: Project, packages: Path):
    gated.manifest(mlps("net"), 'precisions = ["fp32", "fp16", "half"]\n' + TARGETS)
    gated.run("-m", "equivalence")
    outcomes = gated.outcomes()
    assert set(outcomes.values()) == {"passed"}
    assert "net::torchscript-op17-half::test_equivalence[chromium]" in outcomes


def test_bf16_which_has_no_kernels_there(gated: Project, packages: Path):
    gated.manifest(mlps("net"), 'precisions = ["bf16"]\n' + TARGETS)
    gated.run("-m", "equivalence")
    assert told(gated, "equivalence") == dict.fromkeys(NAMES, "skipped")
    reasons = {check["target"]: check["reason"] for check in gated.record["checks"]}
    for target in NAMES:
        assert reasons[target].startswith("bf16 does not load on "), reasons[target]
        assert "Could not find an implementation for " in reasons[target]


def test_int64_beyond_what_a_number_holds(gated: Project, packages: Path):
    gated.path.joinpath("nets.py").write_text(NETS)
    gated.manifest(COUNTER.format(given=""), TARGETS)
    gated.run("-m", "equivalence")
    assert told(gated, "equivalence", "counter") == dict.fromkeys(NAMES, "passed")


def test_int64_that_went_through_a_number(gated: Project, packages: Path):
    gated.path.joinpath("nets.py").write_text(NETS)
    nodes = [
        helper.make_node("Cast", ["x"], ["number"], to=Proto.DOUBLE),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("Cast", ["one"], ["one_"], to=Proto.DOUBLE),
        helper.make_node("Add", ["number", "one_"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["y"], to=Proto.INT64),
    ]
    values = (helper.make_tensor_value_info(name, Proto.INT64, [8]) for name in "xy")
    graph = helper.make_graph(nodes, "graph", *([value] for value in values))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, gated.path / "counter.onnx")
    gated.manifest(COUNTER.format(given='onnx = "counter.onnx"'), TARGETS)
    assert gated.run("-m", "equivalence", "--onnxcheck-target=chromium").ret == 1
    (reason,) = (
        check["reason"] for check in gated.record["checks"] if check["outcome"] == "failed"
    )
    assert "int64 outputs are exact" in reason


def test_webgpu_is_told_apart(gated: Project, packages: Path):
    gated.manifest(mlps("net"), TARGETS)
    gated.run("--onnxcheck-target=webgpu", "-m", "target or equivalence")
    outcomes = gated.outcomes()
    assert set(outcomes.values()) <= {"passed", "skipped"}
    variant = "net::torchscript-op17-fp32"
    reason = gated.reason(f"{variant}::test_target[webgpu]")
    assert "does not tell JavaScript" in reason or "is not in that onnxruntime" in reason


def test_an_operator_that_is_not_there(gated: Project, packages: Path):
    graph = helper.make_graph(
        [helper.make_node("Unheard", ["x"], ["y"], domain="nobody")],
        "graph",
        [helper.make_tensor_value_info("x", Proto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", Proto.FLOAT, ["batch", 4])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nobody", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, gated.path / "net.onnx")
    text = mlps("net").replace("dims =", 'onnx = "net.onnx"\ndims =')
    gated.manifest(text, TARGETS)
    gated.run("-m", "equivalence", "--onnxcheck-target=web", "--onnxcheck-target=chromium")
    reasons = [check["reason"] for check in gated.record["checks"]]
    assert any("does not load in onnxruntime 1.30.0" in reason for reason in reasons)
