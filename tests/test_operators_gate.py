"""Models with custom operators under the gate, in projects of their own."""

import subprocess
import sys

import pytest
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


@parse_args("v", "f")
def symbolic(g, x, limit):
    limit = g.op("Constant", value_t=torch.tensor(limit))
    return g.op("Mul", limit, g.op("Tanh", g.op("Div", x, limit)))


def forgetful(g, x, limit):
    return g.op("Tanh", x)
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
    both = 'dynamo = "operators.py:to_onnx", torchscript = "operators.py:symbolic"'
    right = NET.format(name="right", translations=both)
    wrong = NET.format(name="wrong", translations='torchscript = "operators.py:forgetful"')
    project.manifest(f'{right}exporters = ["dynamo", "torchscript"]\n{wrong}', "opsets = [18]")
    result = project.run("-m", "not latency")
    outcomes = project.outcomes()
    right = {nodeid: found for nodeid, found in outcomes.items() if nodeid.startswith("right")}
    assert set(right.values()) == {"passed"}
    assert {nodeid.split("-")[0] for nodeid in right} == {"right::dynamo", "right::torchscript"}
    assert outcomes["wrong::torchscript-op18-fp32::test_structure"] == "passed"
    assert outcomes["wrong::torchscript-op18-fp32::test_equivalence[cpu]"] == "failed"
    result.stdout.fnmatch_lines(["  guilty stage: conversion", "*first divergence: Tanh node *"])


LIBRARY = """
import torch


@torch.library.custom_op("gate::negpos", mutates_args=())
def negpos(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return x.clamp(max=0), x.clamp(min=0)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(8, 16), torch.nn.Linear(16, 4)

    def forward(self, x):
        negative, positive = torch.ops.gate.negpos(self.first(x))
        return self.last(0.1 * negative + positive)


def net():
    return Net().eval()


def symbolic(g, x):
    return tuple(out.setType(x.type()) for out in g.op("ai.onnx.contrib::NegPos", x, outputs=2))


def swapped(g, x):
    return symbolic(g, x)[::-1]
"""
CONTRIB = """
[models.{name}]
factory = "library.py:net"
operator_libraries = ["onnxruntime_extensions"]
translations."gate::negpos" = "library.py:{function}"
dims = {{ batch = [1, 3] }}
inputs.x = {{ shape = ["batch", 8], range = [-1.0, 1.0] }}
outputs.y.shape = ["batch", 4]
precisions = {precisions}
"""


def test_operators_of_a_library_run_in_every_check_and_precision(project: Project):
    pytest.importorskip("onnxruntime_extensions")
    (project.path / "library.py").write_text(LIBRARY)
    precisions = ["fp32", "fp16", "int8-dynamic", "int8-static", "int4-weight"]
    right = CONTRIB.format(name="right", function="symbolic", precisions=precisions)
    wrong = CONTRIB.format(name="wrong", function="swapped", precisions=["fp32"])
    project.manifest(f"{right}{wrong}", "opsets = [18]")
    project.on_clock()
    result = project.run("--onnxcheck-mutants=2", "-k", "not batch3")
    outcomes = project.outcomes()
    failed = {nodeid for nodeid, outcome in outcomes.items() if outcome == "failed"}
    assert failed == {"wrong::torchscript-op18-fp32::test_equivalence[cpu]"}
    skipped = {nodeid for nodeid, outcome in outcomes.items() if outcome == "skipped"}
    assert not [nodeid for nodeid in skipped if nodeid.startswith("right")]
    checks = project.record["checks"]
    exported = next(entry["measurement"] for entry in checks if entry["check"] == "export")
    (library,) = exported["libraries"]
    assert library["size_bytes"] > 1e6
    result.stdout.fnmatch_lines(["  guilty stage: conversion"])
    (script,) = project.path.glob(".onnxcheck/repro/*/*/repro.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert "custom operators: " in done.stdout
    assert "they differ" in done.stdout
