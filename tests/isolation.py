"""Models that hang, crash and eat, for the tests of isolation; and who is left of a run."""

from __future__ import annotations

import time
from pathlib import Path

from project import Project

NETS = '''
import ctypes
import os
import time

import torch
from torch import nn

from nets import *


class Bad(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.linear = nn.Linear(8, 4)
        self.what = what

    def forward(self, x):
        if torch.jit.is_tracing():
            self.misbehave()
        return self.linear(x)

    def misbehave(self):
        if self.what == "segfault":
            ctypes.string_at(0)
        if self.what == "abort":
            os.abort()
        if self.what == "exit":
            os._exit(0)
        while self.what == "loop":
            pass


def bad(what):
    return Bad(what).eval()


def eats():
    held = []
    while True:
        held.append(bytearray(b"x") * 2**24)


def forks():
    """Its child leaves its process group, forks again, and never ends."""
    if os.fork() == 0:
        os.setsid()
        os.fork()
        while True:
            time.sleep(1)
    os.wait()
'''

MODEL = """
[models.{name}]
{keys}
dims = {{ batch = [1, 3] }}
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""

#: name -> keys of its table; those whose time is short never end
BAD = {
    "aborts": 'factory = "bad.py:bad"\nkwargs.what = "abort"',
    "eats": 'factory = "bad.py:eats"\nmemory_mb = 1500',
    "exits": 'factory = "bad.py:bad"\nkwargs.what = "exit"',
    "forks": 'factory = "bad.py:forks"\ntimeout = { "loading the checkpoint" = 1 }',
    "loops": 'factory = "bad.py:bad"\nkwargs.what = "loop"\ntimeout = { exporting = 1 }',
    "runs-on": 'factory = "nets.py:mlp"\nonnx = "endless.onnx"\ntimeout = { comparing = 1 }',
    "segfaults": 'factory = "bad.py:bad"\nkwargs.what = "segfault"',
}

#: name -> the check that fails, and words of its reason
REASONS = {
    "aborts": (
        "test_export",
        r"exporting aborts::torchscript-op17-fp32 .*SIGABRT at bad\.py:\d+ in misb",
    ),
    "eats": (
        "test_export",
        r"loading the checkpoint eats held 1\d{3} MB .*may hold 1500 MB.* at bad",
    ),
    "exits": ("test_export", r"exporting exits::torchscript-op17-fp32 .*exit status 0\."),
    "forks": (
        "test_export",
        r"loading the checkpoint forks did not end within the 1 s .* in forks\.",
    ),
    "loops": (
        "test_export",
        r"exporting loops\S+ did not end within the 1 s .*bad\.py:\d+ in misbe",
    ),
    "runs-on": (
        "test_equivalence[cpu]",
        r"comparing runs-on::file-fp32\S* did not end within the 1 s",
    ),
    "segfaults": (
        "test_export",
        r"exporting segfaults\S+ ended its process after .*SIGSEGV at bad\.py",
    ),
}


def misbehaving(project: Project) -> Project:
    """Puts these models into a project, and a mark on all of its processes."""
    project.environ["ONNXCHECK_TEST"] = str(project.path)
    (project.path / "bad.py").write_text(NETS)
    endless(project.path / "endless.onnx")
    return project


def models(*names: str) -> str:
    """Manifest text of models of `BAD`."""
    return "".join(MODEL.format(name=name, keys=BAD[name]) for name in names)


def endless(path: Path) -> None:
    """Writes a model that has the right shape and a loop in C that does not end."""
    import onnx
    from onnx import TensorProto, helper

    step = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Identity", ["held"], ["kept"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, ["batch", 4]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", TensorProto.FLOAT, ["batch", 4]),
        ],
    )
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [8, 4], [0.1] * 32)
    yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "weights"], ["first"]),
            helper.make_node("Loop", ["", "yes", "first"], ["y"], body=step),
        ],
        "endless",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [weights, yes],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)


def holding(path: Path, elements: int) -> None:
    """Writes a model that has the right shape and holds a float32 tensor of so many elements."""
    import onnx

    text = f"""<ir_version: 9, opset_import: ["" : 17]> holding
    (float[batch, 8] x) => (float[batch, 4] y) <int64[1] size = {{{elements}}}> {{
        sum = ReduceSum <keepdims = 0> (x)
        many = Expand(sum, size)
        greatest = ReduceMax <keepdims = 0> (many)
        part, rest = Split <axis = 1> (x)
        y = Add(part, greatest)
    }}"""
    onnx.save(onnx.parser.parse_model(text), path)


def marked(mark: str) -> list[str]:
    """The command lines of the processes that carry a mark, zombies left out."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdecimal() and mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def none_left(mark: str, seconds: float = 30.0) -> bool:
    """Whether all processes with a mark end within some time, which is waited for."""
    until = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not left, left
    return True
