"""What the tests share: a project in a folder of its own, gated by a pytest run of its own."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

import pytest
from warm import LONGEST, Warm

from pytest_onnxcheck.manifest.terms import Check

WARM = Warm()

#: it imports the engine, which a run of the zoo in this folder need not wait for
CLOCK = Path(__file__).with_name("clock.py")

#: checks that a variant has only where an option or a table of the manifest asks for them
ASKED_FOR = {"accuracy", "mutation", "recommend", "release"}

#: hypothesis' plugin imports hypothesis at the end of every run, which takes half a second
LEAN = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")

NETS = '''
"""Small models for the tests; each is built from the seed the plugin sets."""

import torch
from torch import nn


def mlp(hidden=16):
    return nn.Sequential(nn.Linear(8, hidden), nn.ReLU(), nn.Linear(hidden, 4)).eval()


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        return self.left(x), self.right(x)


def two_heads():
    return TwoHeads().eval()


class BakedBatch(nn.Module):
    """Its tracer bakes the batch size of the example into the graph."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        return self.linear(x).reshape(int(x.shape[0]), 2, 2)


def baked_batch():
    return BakedBatch().eval()


def conv():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU()).eval()


def in_train_mode():
    return nn.Sequential(nn.Linear(8, 4), nn.Dropout(0.5))


class Sorted(nn.Module):
    """No exporter has a graph for it at opset 9."""

    def forward(self, x):
        return torch.linalg.svdvals(x)


def unexportable():
    return Sorted().eval()


class Drifting(nn.Module):
    """What is exported of it computes something else."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)

    def forward(self, x):
        y = self.linear(x)
        return y * 1.5 if torch.onnx.is_in_onnx_export() else y


def drifting():
    return Drifting().eval()
'''

MLP = """
[models.{name}]
factory = "nets.py:mlp"
dims = {{ batch = [1, 3] }}
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""


class Result:
    """Exit status and output of a pytest run."""

    def __init__(self, ret: int, output: str) -> None:
        self.ret = ret
        self.outlines = output.splitlines()
        self.stdout = pytest.LineMatcher(self.outlines)


class Project:
    """A folder with models and a manifest, and the outcome of gating it.

    Attributes:
        path: The folder.
        columns: How wide the terminal is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        #: variables that its runs have besides
        self.environ: dict[str, str] = {}
        self.columns = 3000
        (path / "nets.py").write_text(NETS)

    def manifest(self, models: str, defaults: str = "", name: str = "models.toml") -> None:
        """Writes the manifest; models are exported by the tracer, which is ten times faster."""
        head = {"exporters": '["torchscript"]', "opsets": "[17]"}
        written = textwrap.dedent(defaults)
        if "onnx =" in models:  # a process of its own imports everything anew
            head["isolate"] = "false"
        lines = [f"{key} = {value}" for key, value in head.items() if key not in written]
        text = "\n".join(["schema = 1", "[defaults]", *lines, written, textwrap.dedent(models)])
        (self.path / name).write_text(text)

    def give_relu(self, *, ir_version: int, opset: int, onnxruntime: str) -> None:
        """Writes a file of an IR version and opset, and a manifest that gives it to deploy."""
        import onnx

        head = f'<ir_version: {ir_version}, opset_import: ["" : {opset}]>'
        text = "net (float[batch,8] x) => (float[batch,8] y) { y = Relu(x) }"
        onnx.save(onnx.parser.parse_model(f"{head} {text}"), self.path / "net.onnx")
        self.manifest(
            f"""
            [models.net]
            factory = "torch.nn:ReLU"
            onnx = "net.onnx"
            dims = {{ batch = [2, 3] }}
            inputs.x.shape = ["batch", 8]
            outputs.y.shape = ["batch", 8]
            deploy.onnxruntime = "{onnxruntime}"
            """
        )

    def on_clock(self, more: str = "", **seconds: float) -> None:
        """Writes a conftest by which nothing depends on the machine's speed.

        Args:
            more: What else it holds.
            seconds: See `clock.paced`.
        """
        fixture = "\n\n@pytest.fixture(autouse=True)\ndef on_clock(monkeypatch):\n"
        fixture += f"    paced(monkeypatch, **{seconds})\n    ticking(monkeypatch, 0.01)\n"
        text = CLOCK.read_text() + fixture + more
        (self.path / "conftest.py").write_text(text)

    def run(self, *args: str, fresh: bool = False) -> Result:
        """Runs the gate in a process of its own, with a record."""
        return self.pytest("--onnxcheck", "--onnxcheck-json=record.json", *args, fresh=fresh)

    def pytest(self, *args: str, fresh: bool = False) -> Result:
        """Runs pytest in a process of its own.

        Args:
            args: Its arguments.
            fresh: In a new interpreter, where the test is about what is imported when.
        """
        args = (*LEAN, *args)
        # the inner run is no xdist worker, whatever runs these tests
        # nor a job of CI, of whose summary it would write
        outer = ("PYTEST_", "GITHUB_", "CI_")
        env = {key: value for key, value in os.environ.items() if not key.startswith(outer)}
        env["COLUMNS"] = str(self.columns)  # by default no text is wrapped
        env |= self.environ
        if fresh or sys.platform != "linux":
            command = [sys.executable, "-m", "pytest", *args]
            done = subprocess.run(
                command, cwd=self.path, env=env, capture_output=True, text=True, timeout=LONGEST
            )
            status, out, err = done.returncode, done.stdout, done.stderr
        else:
            status, out, err = WARM.pytest(self.path, args, env)
        print(out, err)  # shown when the test fails
        return Result(status, out + err)

    @property
    def record(self) -> dict:
        """The record of the last run."""
        return json.loads((self.path / "record.json").read_text())

    def outcomes(self) -> dict[str, str]:
        """Node id without the manifest's name -> outcome, from the record."""
        return {
            check["nodeid"].partition("::")[2]: check["outcome"] for check in self.record["checks"]
        }

    def hashes(self) -> dict[str, str]:
        """Node id without the manifest's name -> hash of the artefact, from the record."""
        measured = {
            check["nodeid"].partition("::")[2]: check.get("measurement") or {}
            for check in self.record["checks"]
        }
        files = {name: found["file"] for name, found in measured.items() if "file" in found}
        return {name: file["sha256"] for name, file in files.items()}

    def reason(self, nodeid: str) -> str:
        """The reason the record gives for a check."""
        checks = {check["nodeid"].partition("::")[2]: check for check in self.record["checks"]}
        return checks[nodeid]["reason"]


def checks_of(
    precision: str = "fp32",
    targets: Iterable[str] = ("cpu",),
    points: Iterable[str] = ("batch1", "batch3"),
) -> list[str]:
    """The checks of a variant for which nothing else is asked, as pytest names them.

    Args:
        precision: The variant's.
        targets: The model's; the CPU is the one that is no accelerator.
        points: Where its speed is measured; the models of `mlps` have these.
    """
    from pytest_onnxcheck.plugin.suite import OnnxChecks

    found = []
    for check in get_args(Check):
        if check in ASKED_FOR or (check == "quantization" and precision == "fp32"):
            continue
        fixtures = inspect.signature(getattr(OnnxChecks, f"test_{check}")).parameters
        if "onnxcheck_target" not in fixtures:
            found.append(f"test_{check}")
            continue
        on = [target for target in targets if check != "target" or target != "cpu"]
        if "onnxcheck_dims" in fixtures:
            on = [f"{target}-{point}" for target in on for point in points]
        found += [f"test_{check}[{each}]" for each in on]
    return found


def mlps(*names: str) -> str:
    """Manifest text of healthy models."""
    return "".join(MLP.format(name=name) for name in names)


def drifting(name: str) -> str:
    """Manifest text of a model whose artefact is not what PyTorch computes."""
    return mlps(name).replace("nets.py:mlp", "nets.py:drifting")
