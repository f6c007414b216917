"""Whether a target is there: a model of one node is opened on it and run."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.runtime.session import open_session, torch_device
from pytest_onnxcheck.errors import RunError, TargetAbsent
from pytest_onnxcheck.manifest import Target

__all__ = ["Presence", "presence", "torch_absence"]


@dataclass(frozen=True)
class Presence:
    """Whether a target runs anything on this machine.

    Attributes:
        target: Its name.
        provider: Its execution provider.
        problem: Why it runs nothing; None where it does.
        absent: Whether the machine has no such target: its checks skip. With a problem and not
            absent they fail.
    """

    target: str
    provider: str
    problem: str | None = None
    absent: bool = False


def presence(target: Target) -> Presence:
    """Opens a model of one node on a target, in a child process first, and runs it."""
    import numpy as np

    try:
        with tempfile.TemporaryDirectory(prefix="onnxcheck-") as folder:
            path = Path(folder) / "one_node.onnx"
            path.write_bytes(_one_node())
            session = open_session(Artefact.given(path), target)
            session.run({"x": np.ones([1, 1], np.float32)})
    except RunError as error:
        absent = isinstance(error, TargetAbsent)
        return Presence(target.name, target.provider, str(error), absent)
    return Presence(target.name, target.provider)


def torch_absence(target: Target) -> str | None:
    """Why PyTorch cannot be timed beside a target; None where it can. Imports torch."""
    try:
        torch_device(target)
    except RunError as error:
        return str(error)
    return None


@cache
def _one_node() -> bytes:
    """A product of matrices, float32 [1, 1], which every provider has a kernel for."""
    import onnx
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "one", [x], [y])
    model: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    )
    serialised: bytes = model.SerializeToString()
    return serialised
