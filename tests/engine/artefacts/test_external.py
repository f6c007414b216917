"""External data that is not all there is told, part by part; what is whole says nothing."""

import hashlib
import os
import shutil

import numpy as np
import onnx
import onnx_ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.artefacts.checker import check_file
from pytest_onnxcheck.engine.artefacts.external import data_faults, locations, unread_bytes
from pytest_onnxcheck.files import file_sha256


def gemm(rows=64, columns=33):
    """A product with a weight of `rows` x `columns`, and as many biases as columns."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(rows, columns)), "b": rng.normal(size=columns)}
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("Gemm", ["x", "w", "b"], ["y"])],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", rows])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", columns])],
            [numpy_helper.from_array(v.astype("float32"), k) for k, v in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )


def save(path, rows=64, columns=33):
    """`gemm` as onnx saves it: w in 8448 bytes of `net.data`, then b in 132."""
    onnx.save(
        gemm(rows, columns),
        path,
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )
    return path


@pytest.fixture
def net(tmp_path):
    return save(tmp_path / "net.onnx")


def note(path, weight="w", **noted):
    """Changes what the file notes of a weight's external data; None takes an entry away."""
    model = onnx.load(path, load_external_data=False)
    (tensor,) = (t for t in model.graph.initializer if t.name == weight)
    held = {e.key: e.value for e in tensor.external_data} | noted
    del tensor.external_data[:]
    for key, value in held.items():
        if value is not None:
            tensor.external_data.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())


def of_onnx(path):
    save(path)


def a_file_each(path):
    onnx.save(
        gemm(), path, save_as_external_data=True, all_tensors_to_one_file=False, size_threshold=0
    )


def of_onnx_ir(path):
    onnx_ir.save(onnx_ir.serde.deserialize_model(gemm()), path, external_data="net.data")


def of_onnxruntime(path):
    onnx.save(gemm(), path.with_name("inline.onnx"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    name = "session.optimized_model_external_initializers_"
    options.add_session_config_entry(f"{name}file_name", "net.data")
    options.add_session_config_entry(f"{name}min_size_in_bytes", "1")
    onnxruntime.InferenceSession(str(path.with_name("inline.onnx")), options)


def without_lengths(path):
    a_file_each(path)
    note(path, length=None)
    note(path, "b", offset=None, length=None)


def shared(path):
    """Two weights that are read from the same bytes."""
    save(path, 1, 33)
    note(path, "b", offset="0")
    with path.with_name("net.data").open("rb+") as data:
        data.truncate(33 * 4)


def packed(path):
    """Three numbers of 4 bits, in two bytes."""
    model = gemm()
    tensor = helper.make_tensor("q", TensorProto.INT4, [3], b"\x21\x03", raw=True)
    model.graph.initializer.append(tensor)
    onnx.save(model, path, save_as_external_data=True, location="net.data", size_threshold=0)


def with_checksum(path):
    save(path)
    note(path, checksum=hashlib.sha1(path.with_name("net.data").read_bytes()).hexdigest())


@pytest.mark.parametrize(
    "write",
    [
        of_onnx,
        a_file_each,
        of_onnx_ir,
        of_onnxruntime,
        without_lengths,
        shared,
        packed,
        with_checksum,
    ],
)
def test_data_that_is_whole_says_nothing(write, tmp_path):
    path = tmp_path / "net.onnx"
    write(path)
    assert locations(path)
    assert data_faults(path) == []
    assert unread_bytes(path) == {}


def test_a_file_without_external_data_says_nothing(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(gemm(), path)
    assert locations(path) == data_faults(path) == []


def test_a_missing_file_is_named_with_what_it_holds(net):
    net.with_name("net.data").unlink()
    assert data_faults(net) == [
        "data file 'net.data', which holds weight 'w' and 1 more, is missing"
    ]


def test_a_truncated_file_is_told_by_the_first_weight_that_is_cut(net):
    data = net.with_name("net.data")
    data.write_bytes(data.read_bytes()[:-32])
    assert data_faults(net) == [
        "data file 'net.data' has 8548 bytes; weight 'b' is to be read from 8448 to 8580"
    ]
    data.write_bytes(b"")
    assert data_faults(net) == [
        "data file 'net.data' has 0 bytes; weight 'w' is to be read from 0 to 8448 "
        "(so it is with 1 more)"
    ]


NOTED = {
    "short": ({"length": "8440"}, "weight 'w', FLOAT [64, 33], takes 8448 bytes, and 8440 are set"),
    "long": ({"length": "8460"}, "weight 'w', FLOAT [64, 33], takes 8448 bytes, and 8460 are set"),
    "to the end": ({"length": None}, "takes 8448 bytes, and 8580 are set apart"),
    "before the start": ({"offset": "-4"}, "weight 'w' is to be read from -4 to 8444"),
    "beyond the end": ({"offset": "9000"}, "weight 'w' is to be read from 9000 to 17448"),
    "no number": ({"offset": "many"}, "offset or length of weight 'w' is no number: {'location'"),
}


@pytest.mark.parametrize("how", NOTED)
def test_a_place_that_does_not_fit_the_weight_is_told(net, how):
    noted, text = NOTED[how]
    note(net, **noted)
    (fault,) = data_faults(net)
    assert fault.startswith("data file 'net.data' has 8580 bytes; ")
    assert text in fault


def test_weights_that_overlap_are_told(net):
    note(net, offset="4")
    assert data_faults(net) == [
        "data file 'net.data' has 8580 bytes; weights 'w' and 'b' overlap: one ends at 8452, the "
        "other starts at 8448"
    ]


@pytest.mark.parametrize("where", ["absolute", "above", "of Windows"])
def test_a_file_outside_of_the_folder_is_told_although_it_is_there(net, where, tmp_path):
    folder = tmp_path / "shipped"
    folder.mkdir()
    moved = shutil.move(net, folder / "net.onnx")
    absolute = str(tmp_path / "net.data")
    location = {"absolute": absolute, "above": "../net.data", "of Windows": "C:\\net.data"}[where]
    for weight in ("w", "b"):
        note(moved, weight, location=location)
    (fault,) = data_faults(moved)
    assert fault.startswith(
        f"data file {location!r}, which holds weight 'w' and 1 more, lies outside of the "
    )


def linked(net, target):
    net.with_name("net.data").unlink()
    net.with_name("net.data").symlink_to(target)


def test_a_link_out_of_the_folder_is_told_and_not_followed(tmp_path):
    folder = tmp_path / "shipped"
    folder.mkdir()
    net = save(folder / "net.onnx")
    shutil.move(folder / "net.data", tmp_path / "net.data")
    (folder / "net.data").symlink_to("../net.data")
    (fault,) = data_faults(net)
    assert fault.endswith(
        f"is a link that leads out of the artefact's folder, to {tmp_path}/net.data"
    )
    assert [file.name for file in Artefact.given(net).files] == ["net.onnx"]


def test_a_folder_that_is_a_link_out_is_told(tmp_path):
    folder, outside = tmp_path / "shipped", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    net = save(folder / "net.onnx")
    shutil.move(folder / "net.data", outside / "net.data")
    (folder / "sub").symlink_to(outside)
    for weight in ("w", "b"):
        note(net, weight, location="sub/net.data")
    (fault,) = data_faults(net)
    assert "is a link that leads out of the artefact's folder" in fault


def test_a_device_is_told_and_not_read(net):
    linked(net, "/dev/zero")
    (fault,) = data_faults(net)
    assert fault.endswith("is a link that leads out of the artefact's folder, to /dev/zero")
    net.with_name("net.data").unlink()
    os.mkfifo(net.with_name("net.data"))  # to open one waits for ever
    (fault,) = data_faults(net)
    assert fault.endswith("is no regular file")
    assert [file.name for file in Artefact.given(net).files] == ["net.onnx"]


def test_data_outside_is_not_even_hashed(net, tmp_path):
    os.mkfifo(tmp_path / "waits")
    for location in (str(tmp_path / "waits"), "../waits"):
        note(net, location=location)
        assert [file.name for file in Artefact.given(net).files] == ["net.onnx", "net.data"]


@pytest.mark.parametrize("location", ["a" * 5000, "net\0.data", "net.data"])
def test_a_name_that_no_file_can_have_and_a_circle_of_links_are_told(net, location):
    if location == "net.data":
        linked(net, "net.data")
    note(net, location=location)
    assert any("cannot be opened: " in fault for fault in data_faults(net))


def test_the_cache_of_a_hub_is_links_and_is_whole(tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    net = save(tmp_path / "net.onnx")
    for name, blob in (("net.onnx", "ab12"), ("net.data", "cd34")):
        shutil.move(tmp_path / name, blobs / blob)
        (snapshot / name).symlink_to(f"../../blobs/{blob}")
    assert data_faults(snapshot / net.name) == []
    assert len(Artefact.given(snapshot / net.name).files) == 2


def test_a_weight_without_a_file_is_told(net):
    note(net, location=None)
    assert data_faults(net) == ["the artefact names no data file for weight 'w'"]


def test_another_file_of_the_same_size_is_told_where_its_checksum_is_noted(net):
    data = net.with_name("net.data")
    note(net, checksum=hashlib.sha1(data.read_bytes()).hexdigest())
    data.write_bytes(data.read_bytes()[::-1])
    (fault,) = data_faults(net)
    assert fault.startswith(
        "data file 'net.data' is another one than the artefact was made with: its SHA-1 is "
    )


def test_what_no_weight_is_read_from_is_counted(net, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    save(other / "net.onnx", columns=40)  # as much as a larger net of before
    shutil.copy(other / "net.data", tmp_path)
    assert data_faults(net) == []
    assert unread_bytes(net) == {"net.data": 64 * 40 * 4 + 40 * 4 - 8580}
    assert check_file(Artefact.given(net)).unread == unread_bytes(net)


def test_a_file_check_says_what_was_hashed_file_by_file(net):
    found = check_file(Artefact.given(net))
    assert [(file.name, file.size_bytes) for file in found.files] == [
        ("net.onnx", net.stat().st_size),
        ("net.data", 8580),
    ]
    assert [file.sha256 for file in found.files] == [
        file_sha256(net),
        file_sha256(net.with_name("net.data")),
    ]
    both = net.read_bytes() + net.with_name("net.data").read_bytes()
    assert found.sha256 == hashlib.sha256(both).hexdigest()
    assert found.size_bytes == len(both)
