"""Models with custom operators under the gate, in projects of their own."""

from project import Project

OPERATORS = """
import torch
from onnxscript import opset18 as op
from torch.onnx.symbolic_helper import parse_args


@torch.library.custom_op("gate::softclip", mutates_args=())
def softclip(x: torch.Tensor, limit: float) -> torch.Tensor:
    return limit * torch.tanh(x / limit)


@softclip.register_fake
def _(x, limit):
    return torch.empty_like(x)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x):
        return torch.ops.gate.softclip(self.linear(x), 2.0)


def net():
    return Net().eval()


def to_onnx(x, limit: float):
    return op.Mul(limit, op.Tanh(op.Div(x, limit)))


def forgetful(x, limit: float):
    return op.Tanh(x)


@parse_args("v", "f")
def symbolic(g, x, limit):
    limit = g.op("Constant", value_t=torch.tensor(limit))
    return g.op("Mul", limit, g.op("Tanh", g.op("Div", x, limit)))
"""
NET = """
[models.{name}]
factory = "operators.py:net"
translations."gate::softclip" = {{ {translations} }}
dims = {{ batch = [1, 3] }}
inputs.x.shape = ["batch", 4]
outputs.y.shape = ["batch", 4]
"""


def test_translated_operators_are_compared_with_pytorch(project: Project):
    (project.path / "operators.py").write_text(OPERATORS)
    symbolic = 'torchscript = "operators.py:symbolic"'
    project.manifest(
        NET.format(name="right", translations=f'dynamo = "operators.py:to_onnx", {symbolic}')
        + NET.format(name="wrong", translations='dynamo = "operators.py:forgetful"'),
        'exporters = ["dynamo"]\nopsets = [18]',
    )
    text = (project.path / "models.toml").read_text()
    both = '[models.right]\nexporters = ["dynamo", "torchscript"]'
    (project.path / "models.toml").write_text(text.replace("[models.right]", both))
    result = project.run("-m", "not latency")
    outcomes = project.outcomes()
    right = {nodeid: found for nodeid, found in outcomes.items() if nodeid.startswith("right")}
    assert set(right.values()) == {"passed"}
    assert {nodeid.split("-")[0] for nodeid in right} == {"right::dynamo", "right::torchscript"}
    assert outcomes["wrong::dynamo-op18-fp32::test_structure"] == "passed"
    assert outcomes["wrong::dynamo-op18-fp32::test_equivalence[cpu]"] == "failed"
    result.stdout.fnmatch_lines(
        ["  guilty stage: conversion", "*first divergence: Tanh node *", "*gate.softclip, *"]
    )
