"""The worker in JavaScript: what it is asked, what it answers, and what becomes of it."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto as Proto
from onnx import helper

from pytest_onnxcheck.engine.runtime import workers
from pytest_onnxcheck.engine.runtime.nodejs import javascript_child
from pytest_onnxcheck.engine.runtime.worker import read_arrays, write_arrays
from pytest_onnxcheck.manifest.targets import CPU, WEB, Target
from pytest_onnxcheck.processes import Child, HangError

OPENING: dict[str, Any] = {
    "provider": "CPUExecutionProvider",
    "provider_options": {},
    "session_options": {
        "graph_optimization_level": "basic",
        "session.intra_op.allow_spinning": False,
    },
    "threads": 1,
}

#: an array of each type that JavaScript has
ARRAYS = {
    Proto.FLOAT: np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3) / 7),
    Proto.DOUBLE: np.asfortranarray(np.arange(24).reshape(2, 3, 4) / 7),
    Proto.FLOAT16: np.array([1e-7, 65504, np.inf, np.nan], np.float16),
    Proto.INT8: np.array([-128, 127], np.int8),
    Proto.INT16: np.array([-(2**15)], np.int16),
    Proto.INT32: np.array(-(2**31), np.int32),
    Proto.INT64: np.array([2**53 + 1, -(2**63)]),
    Proto.UINT8: np.zeros((0, 3), np.uint8),
    Proto.UINT16: np.array([2**16 - 1], np.uint16),
    Proto.UINT32: np.array([2**32 - 1], np.uint32),
    Proto.UINT64: np.array([2**64 - 1], np.uint64),
    Proto.BOOL: np.array([[True, False]]),
    Proto.STRING: np.array(["a", "bé\N{GRINNING FACE}", ""]),
}


def model(path: Path, *nodes: onnx.NodeProto, **inputs: int) -> Path:
    """Writes a model whose outputs are those of its nodes, of the types of their inputs."""
    taken = [
        helper.make_tensor_value_info(name, kind, ["n"] if name != "x" else None)
        for name, kind in inputs.items()
    ]
    given = [
        helper.make_tensor_value_info(node.output[0], kind, None)
        for node, kind in zip(nodes, inputs.values(), strict=True)
    ]
    for value in (*taken, *given):
        value.type.tensor_type.ClearField("shape")
    graph = helper.make_graph(list(nodes), "graph", taken, given)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path
    )
    return path


def opened(child: Child, path: Path, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = workers.ask(child, "open", path=str(path), opening=OPENING | more)
    return found


def ran(child: Child, session: int, folder: Path, *arrays: Any) -> list[Any]:
    files = {"inputs": str(folder / "inputs"), "outputs": str(folder / "outputs")}
    write_arrays(files["inputs"], arrays)
    workers.ask(child, "run", session=session, **files)
    return read_arrays(files["outputs"])


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    return model(tmp_path / "model.onnx", helper.make_node("Identity", ["x"], ["y"]), x=Proto.FLOAT)


def test_every_type_comes_back_as_it_went(child: Child, tmp_path: Path):
    names = [f"x{number}" for number in range(len(ARRAYS))]
    nodes = [helper.make_node("Identity", [name], [f"{name}_y"]) for name in names]
    kinds = dict(zip(names, ARRAYS, strict=True))
    found = opened(child, model(tmp_path / "types.onnx", *nodes, **kinds))
    assert [name for name, _ in found["inputs"]] == names
    told = {kind: type_ for kind, (_, type_) in zip(ARRAYS, found["inputs"], strict=True)}
    assert told[Proto.FLOAT] == "tensor(float)"
    assert told[Proto.FLOAT16] == "tensor(float16)"
    assert told[Proto.INT64] == "tensor(int64)"
    outputs = ran(child, found["session"], tmp_path, *ARRAYS.values())
    for given, got in zip(ARRAYS.values(), outputs, strict=True):
        assert got.dtype.kind == given.dtype.kind
        assert got.shape == given.shape
        np.testing.assert_array_equal(got, given)
    assert child.told() == ""


def test_versions_and_providers(child: Child):
    found = workers.ask(child, "hello")
    assert found["version"] == "1.30.0"
    assert found["available"][0] == "CPUExecutionProvider"
    assert set(found["available"]) <= set(found["known"])
    assert "node" in found["packages"]


def test_what_is_wrong_is_told(child: Child, identity: Path, tmp_path: Path):
    (tmp_path / "spoilt.onnx").write_bytes(b"\xff" * 64)
    with pytest.raises(workers.Refused, match=r"(?i)protobuf parsing failed"):
        opened(child, tmp_path / "spoilt.onnx")
    with pytest.raises(workers.Refused, match=r"QNNExecutionProvider is no provider"):
        opened(child, identity, provider="QNNExecutionProvider")
    with pytest.raises(workers.Refused, match=r"a\.so: JavaScript loads no libraries"):
        opened(child, identity, libraries=["a.so"])
    number = opened(child, identity)["session"]  # and it goes on
    with pytest.raises(workers.Refused, match=r"(?i)unexpected input data type"):
        ran(child, number, tmp_path, np.zeros(3, np.int64))
    with pytest.raises(workers.Refused, match=r"arrays of <c16 have no type in JavaScript"):
        ran(child, number, tmp_path, np.zeros(3, np.complex128))
    (tmp_path / "garbage").write_bytes(b"garbage")
    with pytest.raises(workers.Refused, match="a file of arrays holds something else"):
        workers.ask(
            child, "run", session=number, inputs=str(tmp_path / "garbage"), outputs=str(tmp_path)
        )


def test_calls_take_turns(child: Child, identity: Path, tmp_path: Path):
    number = opened(child, identity)["session"]
    inputs = str(tmp_path / "inputs")
    write_arrays(inputs, [np.zeros(3, np.float32)])
    warm = workers.ask(child, "take_turns", sides=[[number, inputs], [number, inputs]])
    assert len(warm) == 3
    assert min(warm) > 0
    found = workers.ask(child, "take_round", order=[2, 0, 1], untimed=[0, 1, 2])
    assert [len(times) for times in found] == [3, 3, 3]
    workers.ask(child, "rest")


def test_weights_in_a_file_beside(child: Child, tmp_path: Path):
    weights = np.arange(1000, dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        "graph",
        [helper.make_tensor_value_info("x", Proto.FLOAT, [1000])],
        [helper.make_tensor_value_info("y", Proto.FLOAT, [1000])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "model.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9),
        path,
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    data = {"model.onnx.data": str(tmp_path / "model.onnx.data")}
    number = opened(child, path, data=data)["session"]
    (found,) = ran(child, number, tmp_path, weights)
    np.testing.assert_array_equal(found, 2 * weights)


def test_it_ends_with_its_browser(child: Child, identity: Path):
    opened(child, identity)
    process = child.start()
    below = _below(process.pid)
    child.close()
    _wait_for(lambda: not any(_alive(each) for each in below))


@pytest.mark.parametrize("killed", [False, True])
def test_a_browser_leaves_no_files_behind(
    packages: Path, kept: Path, identity: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
):
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        target = Target("page", CPU.provider, runtime=WEB, browser="chromium", kept=str(kept))
        found = javascript_child(target)
        opened(found, identity)
        assert list(Path(folder).rglob("playwright*"))
        if killed:
            os.kill(found.start().pid, signal.SIGKILL)
        found.close()
        if not killed:
            assert not list(Path(folder).rglob("playwright*"))
        del found
        gc.collect()
        assert not list(Path(folder).iterdir())


def test_a_browser_that_crashes(packages: Path, child: Child, identity: Path):
    opened(child, identity)
    below = _below(child.start().pid)
    if not below:
        pytest.skip("node has no browser")
    os.kill(below[0], signal.SIGKILL)
    _wait_for(lambda: not child.alive)
    opened(child, identity)  # in another browser


def test_a_run_that_hangs(child: Child, tmp_path: Path):
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["on"], ["on_"]),
            helper.make_node("Identity", ["x"], ["x_"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", Proto.INT64, []),
            helper.make_tensor_value_info("on", Proto.BOOL, []),
            helper.make_tensor_value_info("x", Proto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on_", Proto.BOOL, []),
            helper.make_tensor_value_info("x_", Proto.FLOAT, None),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node(
                "Constant", [], ["on"], value=helper.make_tensor("on", Proto.BOOL, [], [True])
            ),
            helper.make_node("Loop", ["", "on", "x"], ["y"], body=body),
        ],
        "graph",
        [helper.make_tensor_value_info("x", Proto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", Proto.FLOAT, ["n"])],
    )
    path = tmp_path / "loop.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path
    )
    number = opened(child, path)["session"]
    write_arrays(str(tmp_path / "inputs"), [np.zeros(1, np.float32)])
    files = {"inputs": str(tmp_path / "inputs"), "outputs": str(tmp_path / "outputs")}
    with pytest.raises(HangError):
        workers.ask(child, "run", session=number, **files, timeout=2)
    assert not child.alive


def _wait_for(condition: Callable[[], bool]) -> None:
    """Waits until something is so; fails where it is not within ten seconds."""
    for _ in range(100):
        if condition():
            return
        time.sleep(0.1)
    pytest.fail("it has not come to that within 10 s")


def _below(pid: int) -> list[int]:
    """The processes that a process started, and those that they did."""
    told = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    own = [int(each) for each in told.stdout.split()]
    return [*own, *(deeper for each in own for deeper in _below(each))]


def _alive(pid: int) -> bool:
    try:
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].startswith(" Z")
    except OSError:
        return False
