"""Checkpoints made to do harm: they are refused before they do it."""

import json
import zipfile

import pytest
import torch
from safetensors.torch import save_file

from pytest_onnxcheck.engine.reference.checkpoint import load_checkpoint
from pytest_onnxcheck.engine.reference.folders import checkpoint_problem
from pytest_onnxcheck.engine.reference.formats import unpacked_too_far
from pytest_onnxcheck.errors import CheckpointError


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "net.pt"
    torch.save({"weight": torch.ones(4, 4)}, path)
    return path


def refused(path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, path.parent, trust=False)
    return str(caught.value)


def test_an_archive_that_unpacks_to_far_more_than_it_is_is_not_unpacked(archive):
    packed = archive.with_name("packed.pt")
    with zipfile.ZipFile(archive) as held, zipfile.ZipFile(packed, "w") as written:
        for name in held.namelist():
            data = bytes(300 << 20) if name.endswith("data/0") else held.read(name)
            written.writestr(name, data, zipfile.ZIP_DEFLATED, compresslevel=1)
    text = refused(packed)
    assert text.startswith(f"{packed}: refused: it has {packed.stat().st_size:,} bytes and unpacks")
    assert "to 314,57" in text
    assert checkpoint_problem(packed, packed.parent) == text


def test_an_archive_that_is_packed_as_any_other_is_read(archive):
    packed = archive.with_name("packed.pt")
    with zipfile.ZipFile(archive) as held, zipfile.ZipFile(packed, "w") as written:
        for name in held.namelist():
            written.writestr(name, held.read(name), zipfile.ZIP_DEFLATED)
    assert unpacked_too_far(packed) is None
    assert load_checkpoint(packed, packed.parent, trust=False).content["weight"].sum() == 16


#: where an archive is damaged -> what is said of it; the second is met while its end is looked for
DAMAGED = {
    b"PK\x01\x02": "Bad magic number for central directory",
    b"PK\x06\x07": "zipfiles that span multiple disks are not supported",
}


@pytest.mark.parametrize("magic", DAMAGED)
def test_a_damaged_table_of_contents_is_told(archive, magic):
    data = bytearray(archive.read_bytes())
    at = data.rindex(magic)
    data[at if magic[2] == 1 else at + 16] ^= 6
    archive.write_bytes(data)
    assert f"cannot be read: it is a damaged archive ({DAMAGED[magic]})" in refused(archive)
    assert DAMAGED[magic] in checkpoint_problem(archive, archive.parent)


@pytest.mark.parametrize("where", ["above", "absolute", "of Windows"])
def test_an_index_that_names_files_outside_of_its_folder_is_refused(tmp_path, where):
    folder = tmp_path / "saved"
    folder.mkdir()
    save_file({"weight": torch.ones(2)}, tmp_path / "other.safetensors")
    absolute = str(tmp_path / "other.safetensors")
    name = {"above": "../other.safetensors", "absolute": absolute, "of Windows": "C:\\x"}[where]
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"weight": name}}))
    assert f"{index}: refused: it names files outside of its folder: {name};" in refused(folder)


def test_a_weight_that_claims_2_to_the_40_elements_takes_no_memory(tmp_path):
    path = tmp_path / "net.pt"
    torch.save({"weight": torch.ones(1).expand(2**40)}, path)
    assert path.stat().st_size < 10_000
    found = load_checkpoint(path, tmp_path, trust=False).content["weight"]
    assert found.shape == (2**40,)
    assert found.untyped_storage().nbytes() == 4


def test_safetensors_that_claim_more_than_they_hold_are_refused(tmp_path):
    path = tmp_path / "net.safetensors"
    save_file({"weight": torch.ones(4)}, path)
    table = {"weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}
    header = json.dumps(table).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))
    assert "cannot be read: it is cut short (it should have 4,398,046,511," in refused(path)
