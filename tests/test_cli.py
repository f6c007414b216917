"""The `onnxcheck` command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from project import NETS, mlps

from pytest_onnxcheck import __version__
from pytest_onnxcheck.cli import main


def test_validate_lists_the_variants(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "nets.py").write_text(NETS)
    (tmp_path / "models.toml").write_text("schema = 1\n" + mlps("a", "b"))
    assert main(["validate", str(tmp_path / "models.toml")]) == 0
    assert capsys.readouterr().out == "a::dynamo-op20-fp32\nb::dynamo-op20-fp32\n"


def test_validate_prints_every_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "models.toml"
    path.write_text("schema = 1\nsead = 1\n" + mlps("a") + 'outputs.z.shaep = ["batch"]\n')
    assert main(["validate", str(path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith(f"{path}:2: unknown key 'sead' (did you mean 'seed'?)")
    assert any("unknown key 'shaep' (did you mean 'shape'?)" in line for line in lines)


def test_a_missing_file_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["validate", str(tmp_path / "no.toml")]) == 1
    assert "no.toml: cannot be read" in capsys.readouterr().err
    assert main(["table", str(tmp_path / "no.json")]) == 1
    assert "no.json" in capsys.readouterr().err


def test_schema_is_json(capsys: pytest.CaptureFixture[str]):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["properties"]["schema"]["const"] == 1


def test_version(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


@pytest.mark.parametrize("command", ["table", "frontier"])
def test_a_record_that_cannot_be_read_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
):
    path = tmp_path / "record.json"
    path.write_text('{"format": 7, "onnxcheck": "9.0", "checks": []}')
    assert main([command, str(path)]) == 1
    assert f"{path}: written by onnxcheck 9.0 in format 7" in capsys.readouterr().err
    path.write_text('{"format": 1, "checks": []}')
    assert main([command, str(path)]) == 1
    assert f"{path}: a damaged record: onnxcheck: Field required" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "{}", "schema = 1"])
def test_what_is_no_record_is_an_error(tmp_path, capsys: pytest.CaptureFixture[str], text):
    path = tmp_path / "models.toml"
    path.write_text(text)
    for command in ("frontier", "table"):
        assert main([command, str(path)]) == 1
        message = f"{path}: not a record: write one with --onnxcheck-json=PATH\n"
        assert capsys.readouterr().err == message
