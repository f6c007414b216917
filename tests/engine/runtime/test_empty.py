"""Inputs without elements: a crash of ONNX Runtime is an error of the check."""

import numpy as np
import onnx
import pytest
from small_models import save

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.runtime import empty
from pytest_onnxcheck.engine.runtime.session import open_model, open_session
from pytest_onnxcheck.engine.runtime.values import OpenedGraph
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.manifest.targets import CPU

#: ONNX Runtime 1.32 ends the process on a batch of 0
CONVOLUTION = """(uint8[N,1,4,4] x) => (uint8[N,2,4,4] y) {
    y = QLinearConv <pads = [1, 1, 1, 1]> (x, s, z, w, s, zw, s, z)
}"""
WEIGHTS = {
    "s": np.float32(0.1),
    "z": np.uint8(128),
    "zw": np.int8(0),
    "w": np.ones((2, 1, 3, 3), "int8"),
}


@pytest.fixture
def path(tmp_path):
    return save(tmp_path / "m.onnx", CONVOLUTION, **WEIGHTS)


def images(batch):
    return {"x": np.zeros((batch, 1, 4, 4), "uint8")}


def crashes(path):
    """Whether this version of ONNX Runtime does."""
    return empty.crash_on_empty(str(path), CPU.opening(), images(0)) is not None


def test_a_run_on_an_empty_batch_does_not_end_the_process(path):
    session = open_session(Artefact.given(path), CPU)
    assert session.run(images(2))[0].shape == (2, 2, 4, 4)
    if not crashes(path):
        assert session.run(images(0))[0].shape == (0, 2, 4, 4)
        return
    with pytest.raises(RunError, match="while it ran this artefact on an empty input: keep the"):
        session.run(images(0))
    with pytest.raises(RunError, match="ONNX Runtime crashed"):
        session.call(images(0))
    with pytest.raises(RunError, match="ONNX Runtime crashed"):
        open_model(onnx.load(path).SerializeToString(), CPU).run(images(0))
    assert session.run(images(1))[0].shape == (1, 2, 4, 4)


def test_a_look_inside_on_an_empty_batch_does_not_end_the_process(path):
    found = OpenedGraph(path)
    assert dict(found.values(images(1)))["y"].shape == (1, 2, 4, 4)
    if crashes(path):
        with pytest.raises(RunError, match="ONNX Runtime crashed"):
            list(found.values(images(0)))


def test_what_does_not_crash_is_left_to_the_run(tmp_path):
    path = save(tmp_path / "m.onnx", "(float[N,2] x) => (float[N,2] y) { y = Neg (x) }")
    session = open_session(Artefact.given(path), CPU)
    assert session.run({"x": np.zeros((0, 2), "float32")})[0].shape == (0, 2)
    with pytest.raises(RunError, match="ONNX Runtime failed on x"):  # an error, and no crash
        session.run({"x": np.zeros((0, 3), "float32")})


def test_the_child_is_asked_once_for_each_set_of_empty_axes(path, monkeypatch):
    asked = []
    monkeypatch.setattr(empty, "_known", {})
    monkeypatch.setattr(empty.sandbox, "crash", lambda *given: asked.append(given))
    session = open_session(Artefact.given(path), CPU)
    session.call(images(3))
    for height in (4, 5, 0):
        session.call({"x": np.zeros((0, 1, height, 4), "uint8")})
    assert len(asked) == 2
