"""Calls whose inputs and outputs stay on a device, and what the device is called."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.engine.speed.sides import bound, device_name
from pytest_onnxcheck.manifest.targets import CPU, Target


@pytest.fixture
def doubled(tmp_path: Path) -> Artefact:
    """An artefact of one node."""
    graph = "d (float[2, 3] x) => (float[2, 3] y) { y = Add (x, x) }"
    onnx.save(
        onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {graph}'),
        tmp_path / "doubled.onnx",
    )
    return Artefact.given(tmp_path / "doubled.onnx")


def test_bound_inputs_and_outputs_stay_where_they_are(doubled: Artefact):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    call = bound(open_session(doubled, CPU), {"x": x}, "cpu")  # the same on a GPU, but for the name
    places = []
    for _ in range(3):
        (value,) = call().get_outputs()
        np.testing.assert_array_equal(value.numpy(), 2 * x)
        places.append(value.data_ptr())
    assert len(set(places)) == 1


@pytest.mark.parametrize(("options", "device"), [({}, 0), ({"device_id": "1"}, 1)])
def test_inputs_and_outputs_lie_on_the_targets_device(monkeypatch, options, device):
    # a mock, for there is no GPU: that it is asked for the right one is all that is tested
    session = MagicMock(inputs=["x"], outputs=["y"])
    session.target = Target("gpu", "CUDAExecutionProvider", options)
    ort_value = MagicMock()
    monkeypatch.setattr(onnxruntime, "OrtValue", ort_value)
    bound(session, {})()
    assert ort_value.ortvalue_from_numpy.call_args.args[1:] == ("cuda", device)
    session.handle.io_binding().bind_output.assert_called_once_with("y", "cuda", device)


def test_an_accelerator_is_named_as_far_as_it_can_be_told(monkeypatch):
    # a mock, for there is none
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU of {device}")
    session = MagicMock(provider="OpenVINOExecutionProvider")
    session.target = Target("npu", session.provider, {"device_type": "NPU", "num_of_threads": 1})
    assert device_name(session, "cpu") == "OpenVINOExecutionProvider device_type=NPU"
    assert device_name(session, "cuda:1") == "GPU of cuda:1"
    session.target = CPU
    assert device_name(session, "cpu") == ""
