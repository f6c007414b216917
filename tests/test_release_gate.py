"""The check of the file that is released, in the gate: who has it, and what a failure says."""

from __future__ import annotations

import onnx
import pytest
import torch
from project import Project, mlps
from torch import nn

LINEAR = """

def linear():
    return nn.Linear(8, 4).eval()
"""
GIVEN = """
[models.net]
factory = "nets.py:linear"
checkpoint = "net.pt"
onnx = "net.onnx"
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
release.version = "1"
"""


@pytest.fixture
def given(project: Project) -> Project:
    """A project with an artefact that names the folder it was made in."""
    torch.manual_seed(0)
    net = nn.Linear(8, 4).eval()
    torch.save(net.state_dict(), project.path / "net.pt")
    path, x = project.path / "net.onnx", torch.zeros(1, 8)
    torch.onnx.export(net, (x,), str(path), input_names=["x"], output_names=["y"], dynamo=False)
    model = onnx.load(path)
    model.metadata_props.add(key="checkpoint", value=f"{project.path}/net.pt")
    onnx.save(model, path)
    nets = project.path / "nets.py"
    nets.write_text(nets.read_text() + LINEAR)
    project.manifest(GIVEN)
    return project


def test_a_path_that_is_left_fails_the_check_and_says_where_it_stands(given):
    result = given.run("-m", "release")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*paths of this machine are left in the file:*"])
    reason = given.reason("net::file-fp32::test_release[cpu]")
    assert f"{given.path}/net.pt"[:60] in reason
    assert "take them out where they are made" in reason


def test_only_what_may_be_released_has_the_check(project):
    named = mlps("named") + 'release.variant = "torchscript-op17-fp32"\n'
    chosen = mlps("chosen") + 'release.variant = "frontier"\n'
    project.manifest(named + chosen + mlps("kept"), 'precisions = ["fp32", "int8-dynamic"]')
    result = project.run("-m", "release", "--collect-only", "-q")
    found = [line.partition("::")[2] for line in result.outlines if "test_release" in line]
    assert found == [
        "named::torchscript-op17-fp32::test_release[cpu]",
        "chosen::torchscript-op17-fp32::test_release[cpu]",
        "chosen::torchscript-op17-int8-dynamic::test_release[cpu]",
    ]
