"""The gate on float16 variants of models with tiny constants and tiny values."""

from __future__ import annotations

import pytest
from project import Project

NETS = """
import torch
from torch import nn


class Headed(nn.Module):
    "A function behind a linear layer."

    def __init__(self, function):
        super().__init__()
        self.linear, self.function = nn.Linear(8, 8), function
        self.register_buffer("scale", torch.tensor(1e-9))

    def forward(self, x):
        return self.function(self.linear(x), self.scale)


def scale():
    return Headed(lambda h, scale: h * scale * 3e4)


def epsilon():
    def function(h, scale):
        quiet = h * 1e-4
        return quiet / torch.sqrt((quiet * quiet).mean(-1, True) + 1e-9)

    return Headed(function)


def logarithm():
    "Zeros beside large values, in one tensor."
    return Headed(lambda h, scale: torch.log(torch.relu(h) + 1e-9))


def normalised():
    "An epsilon of 1e-12 beside variances near 1."

    def function(h, scale):
        centred = h - h.mean(-1, True)
        return centred / torch.sqrt((centred * centred).mean(-1, True) + 1e-12)

    return Headed(function)


def tails():
    "A softmax whose tails float16 does not hold, and a branch scaled by 1e-9."
    return Headed(lambda h, scale: torch.softmax(60 * h, -1) @ h.transpose(-1, -2) + scale * h[0])


def subnormal():
    "What float16 holds in a few digits."
    return Headed(lambda h, scale: torch.log(torch.relu(h) + 1e-6) * 1e-5)
"""

MODEL = """
[models.{name}]
factory = "nets16.py:{name}"
precisions = ["fp16"]
inputs.x.shape = [8, 8]
outputs.y.shape = [8, 8]
"""

FAULTY = {
    "scale": "scale (1e-09, here 5.96e-08)",
    "epsilon": "(1e-09, here 5.96e-08)",
    "logarithm": "(1e-09, here 5.96e-08)",
}
HEALTHY = ("normalised", "tails", "subnormal")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("underflow_gate"))
    (project.path / "nets16.py").write_text(NETS)
    project.manifest("".join(MODEL.format(name=name) for name in (*FAULTY, *HEALTHY)))
    project.run("-k", "test_equivalence and fp16")
    return project


def check(project, model):
    (found,) = [entry for entry in project.record["checks"] if entry["model"] == model]
    return found


@pytest.mark.parametrize("model", FAULTY)
def test_a_constant_that_is_raised_fails_and_is_named(run: Project, model):
    found = check(run, model)
    assert found["outcome"] == "failed"
    error, *_, constants = found["findings"]
    assert (error["grade"], error["what"]) == ("fail", "output 'y' error")
    assert "noise floors, allowed 8: worst " in error["text"]
    assert constants["what"] == "float16 constants"
    assert FAULTY[model] in constants["text"]


def test_what_a_gpu_would_lose_is_told_beside_what_was_computed(run: Project):
    grades = {entry["what"]: entry["grade"] for entry in check(run, "scale")["findings"]}
    assert grades["output 'y' error"] == "fail"
    assert grades["float16 underflow"] == "warn"


@pytest.mark.parametrize("model", HEALTHY)
def test_tiny_values_that_do_not_matter_pass(run: Project, model):
    found = check(run, model)
    assert (found["outcome"], found["findings"]) == ("passed", [])
