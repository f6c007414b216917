"""OpenVINO, a second real provider that needs no accelerator (tox -e openvino)."""

from __future__ import annotations

import onnxruntime
import pytest
from project import Project, mlps

pytestmark = pytest.mark.skipif(
    "OpenVINOExecutionProvider" not in onnxruntime.get_available_providers(),
    reason="needs onnxruntime-openvino: tox -e openvino",
)

#: on a machine without Intel's GPU, and with none of the device that does not exist at all
TARGETS = """
[targets.gpu]
provider = "OpenVINOExecutionProvider"
provider_options.device_type = "GPU"

[targets.idle]
provider = "OpenVINOExecutionProvider"
provider_options.device_type = "NONE"
"""

NETS = """
import torch
from torch import nn


class Area(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)

    def forward(self, x):
        return torch.linalg.det(self.linear(x))


def area():
    return Area().eval()


class Mixed(nn.Module):
    # OpenVINO's provider takes no float64
    def __init__(self):
        super().__init__()
        self.narrow, self.wide = nn.Linear(8, 8), nn.Linear(8, 8).double()

    def forward(self, x):
        return self.wide(self.narrow(x).relu().double()).float()


def mixed():
    return Mixed().eval()
"""


def test_every_node_runs_there(project: Project):
    project.manifest(mlps("net"), 'targets = ["openvino"]')
    assert project.run("-k", "test_target or equivalence").ret == 0
    (found,) = [entry for entry in project.record["checks"] if entry["check"] == "target"]
    assert found["measurement"]["nodes"] == {"OpenVINOExecutionProvider": 3}
    assert found["measurement"]["fallen"] == []
    assert found["findings"] == []


def test_a_provider_that_falls_back_when_it_is_opened_fails_once_with_its_reason(project: Project):
    project.manifest(TARGETS + mlps("net"), 'targets = ["gpu"]')
    assert project.run("-k", "test_target or equivalence or latency").ret == 1
    told = project.reason("net::torchscript-op17-fp32::test_target[gpu]")
    assert told.startswith(
        "gpu: ONNX Runtime fell back to CPUExecutionProvider when the session was opened: asked "
        "for OpenVINOExecutionProvider. It said: [ERROR] [OpenVINO] Device GPU is not available"
    )
    outcomes = project.outcomes()
    assert outcomes.pop("net::torchscript-op17-fp32::test_target[gpu]") == "failed"
    assert set(outcomes.values()) == {"skipped"}
    skipped = project.reason("net::torchscript-op17-fp32::test_equivalence[gpu]")
    assert skipped.endswith(
        "needs what failed in models.toml::net::torchscript-op17-fp32::test_target[gpu]"
    )


def test_a_provider_that_is_loaded_and_idle_fails(project: Project):
    project.manifest(TARGETS + mlps("net"), 'targets = ["idle"]')
    assert project.run("-k", "test_target or equivalence").ret == 1
    told = project.reason("net::torchscript-op17-fp32::test_target[idle]")
    assert told.startswith(
        "nodes: OpenVINOExecutionProvider runs none of 3: 3 on CPUExecutionProvider"
    )


def test_a_node_that_it_does_not_take_warns_and_fails_with_a_limit(project: Project):
    (project.path / "nets.py").write_text(NETS)
    model = """
    [models.{0}]
    factory = "nets.py:area"
    inputs.x.shape = [2, 3, 3]
    outputs.y.shape = [2]
    {1}
    """
    limit = "budget.fp32.max_cpu_fallback = 0.0"
    text = model.format("free", "") + model.format("strict", limit)
    project.manifest(text, 'targets = ["openvino"]')
    assert project.run("-k", "test_target").ret == 1
    check = "torchscript-op17-fp32::test_target[openvino]"
    counted = "nodes on the CPU: 1 of 4 (25.0%, 0.0% of the multiply-accumulates)"
    assert project.outcomes() == {f"free::{check}": "passed", f"strict::{check}": "failed"}
    assert project.reason(f"free::{check}").startswith(
        f"{counted}: 1 Det (/Det); none multiplies and accumulates."
    )
    assert project.reason(f"strict::{check}") == (
        f"{counted}, asked for at most 0.0% (budget.max_cpu_fallback.openvino): 1 Det (/Det)"
    )


def test_a_linear_layer_on_the_cpu_fails_although_the_outputs_are_right(project: Project):
    (project.path / "nets.py").write_text(NETS)
    text = mlps("net").replace(":mlp", ":mixed").replace("4]", "8]")
    project.manifest(text, 'targets = ["openvino"]')
    assert project.run("-k", "test_target or equivalence").ret == 1
    check = "net::torchscript-op17-fp32::test_"
    assert project.outcomes() == {
        f"{check}target[openvino]": "failed",
        f"{check}equivalence[openvino]": "passed",
    }
    told = project.reason(f"{check}target[openvino]")
    assert "among them 1 Gemm (/wide/Gemm), for which OpenVINOExecutionProvider has no" in told
    assert "50.0% of the multiply-accumulates" in told


def test_it_is_timed_with_its_threads_and_nodes(project: Project):
    """`num_of_threads` is taken, one thread keeps one processor busy, and all nodes run there."""
    project.manifest(
        mlps("net"), 'targets = ["openvino"]\nlatency = { seconds = 0.2, longest = 0.2 }'
    )
    assert project.run("-m", "latency", "--onnxcheck-require=openvino").ret == 0
    for check in project.record["checks"]:
        measured = check["measurement"]
        assert measured["device"] == "OpenVINOExecutionProvider"
        assert set(measured["assignment"]["nodes"]) == {"OpenVINOExecutionProvider"}
        assert {ratio["clock"] for ratio in measured["ratios"].values()} == {"wall"}
