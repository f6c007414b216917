"""Each way to tamper with a bundle is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_onnxcheck.errors import ReleaseError
from pytest_onnxcheck.release import verify
from pytest_onnxcheck.release.contents import write_sums


@pytest.fixture
def folder(gated) -> Path:
    return gated.release().folder


def reasons(folder: Path) -> str:
    with pytest.raises(ReleaseError) as raised:
        verify(folder)
    return str(raised.value)


def edited(folder: Path, name: str, change) -> None:
    """Changes a JSON file of a bundle, and the list of hashes to fit."""
    written = json.loads((folder / name).read_text())
    change(written)
    (folder / name).write_text(json.dumps(written, indent=1) + "\n")
    (folder / "SHA256SUMS").unlink()
    write_sums(folder)


def test_a_bundle_is_what_it_was_wherever_it_lies(folder, tmp_path):
    moved = folder.rename(tmp_path / "elsewhere")
    assert verify(moved).metadata.name == "net"


@pytest.mark.parametrize("name", ["model.onnx", "metadata.json", "record.json", "README.md"])
def test_a_byte_more(folder, name):
    with (folder / name).open("ab") as file:
        file.write(b" ")
    text = reasons(folder)
    assert f"{name}: changed: SHA-256 " in text
    assert text.startswith(f"{folder} is not the bundle that was made:\n  - ")


def test_a_file_more_or_less(folder):
    (folder / "extra.py").touch()
    (folder / "README.md").unlink()
    text = reasons(folder)
    assert "extra.py: not in SHA256SUMS: it was added" in text
    assert "README.md: missing" in text


def test_a_file_more_that_the_list_of_hashes_has(folder):
    (folder / "extra.py").touch()
    edited(folder, "metadata.json", lambda written: None)
    assert "extra.py: no part of a bundle" in reasons(folder)


def test_no_list_of_hashes_and_one_that_is_none(folder):
    (folder / "SHA256SUMS").write_text("nothing\n")
    assert "SHA256SUMS: not a line of sha256sum: 'nothing'" in reasons(folder)
    (folder / "SHA256SUMS").unlink()
    assert "SHA256SUMS: missing or unreadable" in reasons(folder)


def test_another_artefact_with_the_list_of_hashes_to_fit(folder):
    (folder / "model.onnx").write_bytes(b"another")
    edited(folder, "metadata.json", lambda written: None)
    assert "the artefact is not the one that metadata.json names: model.onnx" in reasons(folder)


def test_another_artefact_with_the_metadata_to_fit(folder):
    from pytest_onnxcheck.files import file_sha256

    (folder / "model.onnx").write_bytes(b"another")
    sha256 = file_sha256(folder / "model.onnx")

    def fit(written):
        written["files"][0]["sha256"] = written["sha256"] = sha256

    edited(folder, "metadata.json", fit)
    assert "metadata.json: says otherwise than record.json of files, sha256" in reasons(folder)


def test_a_number_that_the_record_does_not_have(folder):
    edited(folder, "metadata.json", lambda written: written.update(parameters=7))
    text = reasons(folder)
    assert "metadata.json: says otherwise than record.json of parameters" in text
    assert "README.md: not the card that metadata.json gives" in text


def test_a_record_that_is_red(folder):
    edited(folder, "record.json", lambda written: written["checks"][-1].update(outcome="failed"))
    assert "record.json: the record is red: " in reasons(folder)


def test_a_record_without_a_check_and_of_another_model(folder):
    edited(folder, "record.json", lambda written: written["checks"].pop())
    assert "record.json: incomplete: the run made 11 of 12 checks" in reasons(folder)
    edited(folder, "record.json", lambda written: written["checks"].clear())
    assert "record.json: the record has no check of it" in reasons(folder)
    edited(folder, "record.json", lambda written: written.clear())
    assert "not a record" in reasons(folder)


def test_metadata_that_is_none_and_of_another_format(folder):
    edited(folder, "metadata.json", lambda written: written.pop("opset"))
    assert "metadata.json: not what a bundle has: opset: Field required" in reasons(folder)
    edited(folder, "metadata.json", lambda written: written.update(format=2))
    assert "metadata.json: format 2, and this version reads 1" in reasons(folder)
    (folder / "metadata.json").unlink()
    assert "metadata.json: missing" in reasons(folder)


def damaged(check: str, change):
    """Changes what a check measured."""

    def edit(record: dict) -> None:
        for one in record["checks"]:
            if one["check"] == check and one["outcome"] == "passed":
                change(one)

    return edit


@pytest.mark.parametrize(
    ("check", "change", "told"),
    [
        ("export", lambda one: one.pop("measurement"), "test_export passed, and what it measured"),
        ("structure", lambda one: one.pop("measurement"), "test_structure passed, and what it"),
        ("release", lambda one: one["measurement"]["file"].pop("files"), "names no file"),
        ("latency", lambda one: one["measurement"]["ratios"].pop("torch"), "none to torch"),
    ],
)
def test_a_record_that_lacks_what_was_measured(folder, check, change, told):
    edited(folder, "record.json", damaged(check, change))
    assert "  - record.json: " in reasons(folder)
    assert told in reasons(folder)


def test_metadata_that_names_no_file(folder):
    edited(folder, "metadata.json", lambda written: written.update(files=[]))
    assert "metadata.json: not what a bundle has: files: there is none" in reasons(folder)


def test_what_is_no_bundle(folder):
    with pytest.raises(
        ReleaseError, match=r"is no bundle:\n  - not found: .*did you mean 'net-1.0'"
    ):
        verify(folder.with_name("net-1.1"))
    with pytest.raises(ReleaseError, match=r"is no bundle:\n  - it is no folder"):
        verify(folder / "model.onnx")
    for name in ("metadata.json", "record.json"):
        (folder / name).unlink()
    assert reasons(folder).splitlines()[1:] == [
        *("  - metadata.json: missing", "  - record.json: missing"),
        *("  - metadata.json: missing or unreadable", "  - record.json: missing or unreadable"),
    ]
