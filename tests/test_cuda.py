"""CUDA, on a machine that has it, never in CI: `pytest tests/test_cuda.py`."""

from __future__ import annotations

import onnxruntime
import pytest
import torch
from project import Project, mlps

pytestmark = pytest.mark.skipif(
    "CUDAExecutionProvider" not in onnxruntime.get_available_providers()
    or not torch.cuda.is_available(),
    reason="needs a GPU, onnxruntime-gpu and a torch with CUDA",
)


def gated(project: Project, latency: str, *args: str) -> list[dict]:
    """The checks of a small model on the GPU, all of which pass."""
    project.manifest(
        mlps("net"),
        'targets = ["cuda"]\nprecisions = ["fp32", "fp16"]\n'
        f"latency = {{ seconds = 0.2{latency} }}\nbudget.fp32.max_memory_mb = {{ cuda = 10000 }}",
    )
    assert project.run("--onnxcheck-require=cuda", *args).ret == 0
    assert set(project.outcomes().values()) == {"passed"}
    return project.record["checks"]


def test_a_model_passes_on_it(project: Project):
    checks = gated(project, "")
    nodes = [check["measurement"]["nodes"] for check in checks if check["check"] == "target"]
    assert all(set(found) == {"CUDAExecutionProvider"} for found in nodes)


@pytest.mark.parametrize("graph", ["", ", cuda_graph = true"])
def test_inputs_and_outputs_stay_on_it(project: Project, graph: str):
    for check in gated(project, f', boundary = "device"{graph}', "-m", "latency"):
        assert check["measurement"]["boundary"] == "device to device"
        if "fp32" in check["variant"]:
            assert check["measurement"]["device_memory_bytes"] > 0
