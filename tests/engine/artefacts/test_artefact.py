"""An artefact is its file with the external data, and its builder's notes."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_onnxcheck.engine.artefacts.artefact import Artefact, Notes, artefact_files
from pytest_onnxcheck.files import file_sha256
from pytest_onnxcheck.measurement import CalibrationMeasurement


def save(path, value=1.0, *, external=False):
    """A graph that adds 64 weights."""
    weights = numpy_helper.from_array(np.full(64, value, "float32"), "weights")
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "weights"], ["y"])],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [64])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64])],
        [weights],
    )
    onnx.save(
        helper.make_model(graph),
        path,
        save_as_external_data=external,
        location="model.onnx.data",
        size_threshold=0,
    )


def test_external_data_counts_in_size_and_hash(tmp_path):
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder, value in zip(folders, (1.0, 2.0), strict=True):
        folder.mkdir()
        save(folder / "model.onnx", value, external=True)
    one, two = (folder / "model.onnx" for folder in folders)
    assert one.read_bytes() == two.read_bytes()
    first, second = Artefact.given(one), Artefact.given(two)
    data = one.with_name("model.onnx.data")
    assert first.size_bytes == one.stat().st_size + data.stat().st_size
    assert first.size_bytes > 64 * 4
    assert first.sha256 != second.sha256


def test_external_data_in_a_subgraph_and_in_attributes_is_found(tmp_path):
    inner = numpy_helper.from_array(np.ones(4, "float32"), "inner")
    attribute = numpy_helper.from_array(np.ones(4, "float32"), "attribute")
    for tensor, location in ((inner, "inner.data"), (attribute, "attribute.data")):
        (tmp_path / location).write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=attribute)], "branch", [], [], [inner]
    )
    node = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    model = helper.make_model(helper.make_graph([node], "net", [], []))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert [file.name for file in artefact_files(path)] == [
        "model.onnx",
        "attribute.data",
        "inner.data",
    ]


def test_a_given_file_is_hashed_as_it_is(tmp_path):
    path = tmp_path / "given.onnx"
    save(path)
    artefact = Artefact.given(path)
    assert artefact.sha256 == file_sha256(path)
    assert artefact.size_bytes == path.stat().st_size
    assert (artefact.cached, artefact.seconds, artefact.notes) == (False, 0.0, Notes())


CALIBRATION = CalibrationMeasurement("10 draws", 10, "ab", random=True, constant={"x": 1.5})
TRACED = ("net.py:3: a", "net.py:4: b")

NOTES = {
    "none": Notes(),
    "all": Notes({"operators": ["MatMul"]}, ("x", "y"), CALIBRATION, TRACED),
}


@pytest.mark.parametrize("which", NOTES)
def test_notes_go_to_json_and_back(which):
    notes = NOTES[which]
    assert Notes.from_json(json.loads(json.dumps(notes.to_json()))) == notes


@pytest.mark.parametrize("key", ["options", "narrowed", "calibration", "traced"])
def test_notes_of_another_layout_are_not_taken(key):
    written = NOTES["all"].to_json()
    del written[key]
    with pytest.raises(KeyError, match=key):
        Notes.from_json(written)


def test_notes_with_calibration_data_of_another_layout_are_not_taken():
    written = NOTES["all"].to_json()
    written["calibration"]["batches"] = 3
    with pytest.raises(TypeError, match="batches"):
        Notes.from_json(written)
