"""How large an artefact is on its way to a page."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from pytest_onnxcheck.engine.artefacts.transfer import transferred_bytes


def test_the_file_and_its_data_count_as_gzip_makes_them(tmp_path: Path):
    weights = np.random.default_rng(0).normal(size=700_000).astype(np.float32)
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [700_000])
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [700_000])
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(weights, "w")])
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(graph), path, save_as_external_data=True, location="net.data")
    files = [path, tmp_path / "net.data"]
    assert files[1].stat().st_size > 2**21  # read in pieces
    packed = sum(len(gzip.compress(file.read_bytes(), 6)) for file in files)
    assert transferred_bytes(path) == packed
