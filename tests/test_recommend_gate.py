"""Advice in whole runs: what to leave in float, and what `--onnxcheck-recommend` prints works."""

from __future__ import annotations

import pytest
import torch
from project import Project, mlps

FP32 = "torchscript-op17-fp32"
INT8 = "torchscript-op17-int8-static"

NETS = '''
import torch
from torch import nn


class Loud(nn.Module):
    """A loud channel that the next layer hardly listens to: in int8 the rest vanishes beside it."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 16, 9, padding=4)
        self.second = nn.Conv2d(16, 16, 3, padding=1)
        self.third = nn.Conv2d(16, 16, 3, padding=1)
        with torch.no_grad():
            self.second.weight[0] *= 3000
            self.third.weight[:, 0] *= 0.0003

    def forward(self, x):
        for layer in (self.first, self.second, self.third):
            x = layer(x).relu()
        return x.mean((2, 3))
'''
LOUD = """
[models."loud.1"]
factory = "loud.py:Loud"
precisions = ["fp32", "int8-static"]
dims = {{ batch = [1, 2] }}
inputs.x.shape = ["batch", 3, 12, 12]
outputs.y.shape = ["batch", 16]
tolerance.int8-static.rel_rms = {bound}
{options}
"""


@pytest.fixture
def loud(project: Project) -> Project:
    (project.path / "loud.py").write_text(NETS)
    return project


def test_a_failing_int8_static_says_what_to_leave_in_float_and_that_passes(loud: Project):
    loud.manifest(LOUD.format(bound=0.02, options=""))
    result = loud.run("-k", "equivalence and int8")
    assert result.ret == 1
    result.stdout.re_match_lines(
        [
            r" *guilty stage: quantization",
            r" *nodes by their own loss: /third/Conv \(Conv\) -?\d\.\d dB, .*",
            r" *with these left in float it no longer fails \(rel_rms 0\.0\d+, 0\.\d\d of .*\):",
            r' *\[models\."loud\.1"\.quantization\.torchscript-op17-int8-static\]',
            r' *exclude_nodes = \["/third/Conv", "/second/Conv"\]',
            r" *reproduce: .*",
        ]
    )
    (check,) = loud.record["checks"]
    tried = check["measurement"]["diagnosis"]["sensitivity"]["tried"]
    assert [entry["problem"] is None for entry in tried] == [False] * (len(tried) - 1) + [True]

    start = next(i for i, line in enumerate(result.outlines) if f"quantization.{INT8}]" in line)
    loud.manifest(LOUD.format(bound=0.02, options="\n".join(result.outlines[start : start + 2])))
    assert loud.run("-m", "not latency").ret == 0


def test_where_leaving_nodes_in_float_is_not_enough_it_says_so(loud: Project):
    loud.manifest(LOUD.format(bound=1e-6, options=""))
    result = loud.run("-k", "equivalence and int8")
    assert result.ret == 1
    result.stdout.re_match_lines(
        [
            r" *leaving \d nodes in float will not do \(rel_rms \S+, 1\.00 of the fp32 bytes\): it "
            r"takes all nodes, and is fp32 then; nearest with fewer: .* at most 1e-06, .*"
        ]
    )
    assert not any("with these left" in line for line in result.outlines)


def test_an_expected_failure_is_not_looked_into(loud: Project):
    options = '[["models"."loud.1"."xfail"]]\nchecks = ["equivalence"]\nreason = "int8 loses it"'
    options += '\nvariants = ["*-int8-static"]'
    loud.manifest(LOUD.format(bound=0.02, options=options))
    assert loud.run("-k", "equivalence and int8").ret == 0
    (check,) = loud.record["checks"]
    assert check["measurement"]["diagnosis"] is None


def test_what_is_recommended_can_be_put_in_the_manifest_and_passes(project: Project):
    # budgets leave fp16 alone
    others = ("fp32", "int8-dynamic", "int8-static", "int4-weight")
    defaults = "latency.seconds = 0.05\n[defaults.budget]\n"
    defaults += "\n".join(f"{precision}.max_size_mb = 1e-6" for precision in others)
    project.manifest(mlps("net"), defaults)
    project.on_clock()
    result = project.run("--onnxcheck-recommend=600", "-m", "recommend")
    assert result.ret == 0
    assert project.outcomes() == {f"net::{FP32}::test_recommend[cpu]": "passed"}
    result.stdout.re_match_lines(
        [
            rf"recommend  net::{FP32} \[cpu\]",
            r" *recipe  +size  +of fp32  +x PyTorch  +x fp32  +rel_rms  +coverage  +problem",
            r" +int8-dynamic .* allowed 1e-06 \(budget\.max_size_mb\)",
            r"  \* fp16  +\d\.\d+ kB .*",
            r" +to put in the manifest, a table at its end:",
            r' +# in \[models\.net\] set precisions = \["fp32", "fp16"\]',
        ]
    )
    (check,) = project.record["checks"]
    line = check["measurement"]["toml"].partition(" set ")[2]
    project.manifest(mlps("net") + line, defaults)
    project.run("-m", "not latency", "-k", "fp16")
    assert set(project.outcomes().values()) == {"passed"}


def test_it_is_off_unless_asked_for_and_belongs_to_exported_fp32_alone(project: Project):
    module = torch.nn.Linear(8, 4)
    torch.onnx.export(module, (torch.zeros(1, 8),), str(project.path / "net.onnx"), dynamo=False)
    project.manifest(
        mlps("net", "file").replace(
            '[models.file]\nfactory = "nets.py:mlp"',
            '[models.file]\nfactory = "nets.py:mlp"\nonnx = "net.onnx"',
        ),
        'precisions = ["fp32", "int8-static"]\ntargets = ["cpu", "cuda"]',
    )

    def collected(*args: str) -> list[str]:
        lines = project.run("--collect-only", "-q", *args).outlines
        return [line.partition("::")[2] for line in lines if "test_recommend" in line]

    assert collected() == []
    assert collected("--onnxcheck-recommend=0") == []
    assert collected("--onnxcheck-recommend=5") == [
        f"net::{FP32}::test_recommend[cpu]",
        f"net::{FP32}::test_recommend[cuda]",
    ]


@pytest.mark.parametrize("amount", ["-1", "soon", "inf"])
def test_an_amount_that_is_none_is_refused(project: Project, amount: str):
    project.manifest(mlps("net"))
    result = project.pytest("--onnxcheck", f"--onnxcheck-recommend={amount}")
    assert result.ret == 4
    assert f"'{amount}' is not a number from 0 up" in "\n".join(result.outlines)
