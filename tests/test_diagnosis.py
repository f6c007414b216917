"""What a failing equivalence check tells, and what is noticed beside the outputs, in whole runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from helpers import arrays_in
from project import Project
from torch import nn

NETS = '''
import torch
from torch import nn


class Softened(nn.Module):
    """The tracer's exporter drops the threshold of its Softplus."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.soft = nn.Softplus(beta=2, threshold=1)
        self.last = nn.Linear(16, 4)

    def forward(self, x):
        return self.last(self.soft(self.first(x)))


class Rare(nn.Module):
    """Wrong in the artefact only where an element is above 7."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        if x.amax() > 7:
            return self.linear(x) * 2
        return self.linear(x)


class Norm(nn.Module):
    """Its squared norm leaves float16 where x is large."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(64, 4)

    def forward(self, x):
        return self.linear(x / (x.pow(2).sum(-1, keepdim=True).sqrt() + 1e-3))


class Deaf(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x, ignored):
        return self.linear(x)


def softened():
    return Softened().eval()


def rare():
    return Rare().eval()


def norm():
    return Norm().eval()


def deaf():
    return Deaf().eval()
'''

PLAIN = 'inputs.x.shape = ["batch", 8]\noutputs.y.shape = ["batch", 4]\n'
WIDE = 'inputs.x.shape = ["batch", 64]\noutputs.y.shape = ["batch", 4]\n'
HALF = 'factory = "faulty.py:norm"\ncheckpoint = "norm.pt"\nonnx = { fp16 = "half.onnx" }\n'

MODELS = {
    "softened": 'factory = "faulty.py:softened"\n' + PLAIN,
    "expected": 'factory = "faulty.py:softened"\n'
    + PLAIN
    + '[[models.expected.xfail]]\nreason = "known"\nchecks = ["equivalence"]\n',
    "rare": 'factory = "faulty.py:rare"\nprobe_seconds = 0\n' + PLAIN,
    "half": HALF + WIDE,
    "half_large": HALF + "inputs.x.std = 60\n" + WIDE,
    "deaf": 'factory = "faulty.py:deaf"\ncheckpoint = "deaf.pt"\nonnx = "deaf.onnx"\n'
    'inputs.x.shape = ["batch", 8]\ninputs.ignored.shape = ["batch", 2]\n'
    'outputs.y.shape = ["batch", 4]\n',
    "constant": 'factory = "faulty.py:rare"\nprobe_seconds = 0\nprecisions = ["int8-static"]\n'
    'calibration.file = "zeros.npz"\n' + PLAIN,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One run over all of them, with a search of a few seconds each."""
    project = Project(tmp_path_factory.mktemp("diagnosis"))
    (project.path / "faulty.py").write_text(NETS)
    space: dict[str, type[nn.Module]] = {}
    exec(NETS, space)
    torch.manual_seed(0)
    half_precision(project, space["Norm"]())
    with_an_unused_input(project, space["Deaf"]())
    np.savez(project.path / "zeros.npz", x=np.zeros((16, 8), np.float32))
    tables = [f"[models.{name}]\ndims = {{ batch = [1, 3] }}\n{t}" for name, t in MODELS.items()]
    project.manifest("\n".join(tables))
    project.on_clock()
    project.result = project.run("-m", "not latency", "--onnxcheck-search=4")
    return project


def export(module: nn.Module, inputs: dict[str, torch.Tensor], path: Path) -> None:
    torch.onnx.export(
        module,
        tuple(inputs.values()),
        str(path),
        dynamo=False,
        input_names=list(inputs),
        output_names=["y"],
        dynamic_axes={name: {0: "batch"} for name in [*inputs, "y"]},
    )


def half_precision(project: Project, module: nn.Module) -> None:
    """As onnxruntime's converter writes it: its nodes are not in topological order."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    torch.save(module.state_dict(), project.path / "norm.pt")
    export(module.eval(), {"x": torch.randn(2, 64)}, project.path / "float.onnx")
    converted = convert_float_to_float16(onnx.load(project.path / "float.onnx"), keep_io_types=True)
    onnx.save(converted, project.path / "half.onnx")


def with_an_unused_input(project: Project, module: nn.Module) -> None:
    """The input that the tracer leaves out is declared all the same."""
    torch.save(module.state_dict(), project.path / "deaf.pt")
    inputs = {"x": torch.randn(2, 8), "ignored": torch.randn(2, 2)}
    export(module.eval(), inputs, project.path / "deaf.onnx")
    model = onnx.load(project.path / "deaf.onnx")
    ignored = onnx.helper.make_tensor_value_info("ignored", onnx.TensorProto.FLOAT, ["batch", 2])
    model.graph.input.append(ignored)
    onnx.save(model, project.path / "deaf.onnx")


def check(project: Project, model: str, kind: str = "equivalence") -> dict[str, Any]:
    (found,) = [
        entry
        for entry in project.record["checks"]
        if (entry["model"], entry["check"]) == (model, kind)
    ]
    return found


def test_a_failure_names_stage_layer_and_source_line(run: Project):
    found = check(run, "softened")
    assert found["outcome"] == "failed"
    diagnosis = found["measurement"]["diagnosis"]
    assert diagnosis["stage"] == "conversion"
    assert [step["agrees"] for step in diagnosis["steps"]] == [True, False, False, False]
    divergence = diagnosis["divergence"]
    assert divergence["node"].startswith("/soft/")
    assert divergence["module"] == "soft"
    line = NETS.splitlines().index("        return self.last(self.soft(self.first(x)))") + 1
    assert divergence["source"].endswith(f"faulty.py:{line}")
    text = run.result.stdout.str()
    assert "guilty stage: conversion" in text
    assert "in PyTorch: soft, aten.softplus" in text
    assert f"faulty.py:{line}" in text


def test_the_command_in_the_message_reproduces_it_without_the_plugin(run: Project):
    command = check(run, "softened")["measurement"]["diagnosis"]["repro"]
    assert f"reproduce: {command}" in run.result.stdout.str()
    script = run.path / command.partition(" ")[2]
    code = "import runpy, sys; sys.modules['pytest_onnxcheck'] = None; sys.argv = sys.argv[1:]; "
    code += "runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, script], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "they differ" in done.stdout


def test_an_expected_failure_is_not_looked_into(run: Project):
    found = check(run, "expected")
    assert found["outcome"] == "xfailed"
    assert found["measurement"]["diagnosis"] is None
    assert not (run.path / ".onnxcheck" / "repro" / "expected").exists()


def test_a_search_finds_what_draws_do_not_and_it_is_kept_as_a_case(run: Project):
    found = check(run, "rare")
    assert found["outcome"] == "failed"
    assert "[search:" in found["reason"]
    assert found["measurement"]["diagnosis"]["stage"] == "capture"
    arrays = arrays_in(run.path / ".onnxcheck/repro/rare/torchscript-op17-fp32-cpu/inputs.npz")
    assert arrays["x"].max() > 7


def test_what_the_tracer_froze_is_told_with_its_line(run: Project):
    found = check(run, "rare", "export")
    assert (found["outcome"], found["grade"]) == ("passed", "warn")
    line = NETS.splitlines().index("        if x.amax() > 7:") + 1
    assert f"faulty.py:{line}: the tracer says: Converting a tensor to a Python" in found["reason"]


def test_float16_values_that_overflow_fail_though_the_cpu_hides_them(run: Project):
    large = check(run, "half_large")
    assert large["outcome"] == "failed"
    assert "with float16 overflow in " in large["reason"]
    assert "noise floors" in large["reason"]
    hidden = [
        finding
        for finding in large["findings"]
        if finding["grade"] == "fail" and "overflow" not in finding["where"]
    ]
    assert hidden == []
    (stored,) = [case for case in large["measurement"]["cases"] if case["overflowed"]]
    assert {row["metric"] for row in stored["outputs"][0]["rows"]} == {"rel_rms", "cosine"}
    assert check(run, "half")["outcome"] == "passed"


def test_of_ranges_from_constant_data_only_that_is_told(run: Project):
    found = check(run, "constant")
    assert found["outcome"] == "failed"
    diagnosis = found["measurement"]["diagnosis"]
    assert diagnosis["notes"] == ["calibrated on constant data: see test_quantization"]
    assert diagnosis["stage"] == "quantization"
    assert (diagnosis["sensitivity"], diagnosis["losses"], diagnosis["steps"]) == (None, [], [])


def test_nodes_out_of_order_warn_since_the_runtime_sorts_them(run: Project):
    found = check(run, "half", "quantization")
    assert (found["outcome"], found["grade"]) == ("passed", "warn")
    assert "not in topological order" in found["reason"]


def test_an_input_that_pytorch_ignores_too_warns(run: Project):
    found = check(run, "deaf", "structure")
    assert (found["outcome"], found["grade"]) == ("passed", "warn")
    assert found["reason"].endswith("the artefact ignores what callers feed; so does PyTorch")
