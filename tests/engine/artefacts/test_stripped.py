"""A stripped file on disk: its data beside it, under the names that it reads."""

from __future__ import annotations

import onnx
from builders import graph

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.stripped import write_stripped


def test_external_data_comes_along_as_it_is(tmp_path):
    (tmp_path / "from" / "data").mkdir(parents=True)
    (tmp_path / "to").mkdir()
    source, path = tmp_path / "from" / "net.onnx", tmp_path / "to" / "model.onnx"
    model = graph(2.0, 64)
    model.graph.node[0].doc_string = "a comment"
    onnx.save(
        model, source, save_as_external_data=True, location="data/weights.bin", size_threshold=0
    )
    write_stripped(source, path)
    files = Artefact.given(path).files
    assert [file.name for file in files] == ["model.onnx", "data/weights.bin"]
    assert files[1].sha256 == Artefact.given(source).files[1].sha256
    assert onnx.load(path).graph.node[0].doc_string == ""
    assert onnx.numpy_helper.to_array(onnx.load(path).graph.initializer[0])[0] == 2.0


def test_the_same_artefact_gives_the_same_bytes(tmp_path):
    written = []
    for comment in ("one", "another"):
        model = graph(2.0, 64)
        model.graph.doc_string = comment
        onnx.save(model, tmp_path / f"{comment}.onnx")
        write_stripped(tmp_path / f"{comment}.onnx", tmp_path / "model.onnx")
        written.append((tmp_path / "model.onnx").read_bytes())
    assert written[0] == written[1]
