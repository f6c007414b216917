"""`onnxcheck compat`: which releases of ONNX Runtime load an `.onnx`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest

import pytest_onnxcheck
from pytest_onnxcheck.cli import main
from pytest_onnxcheck.engine import environments
from pytest_onnxcheck.engine.graph import runtimes

#: the installed ONNX Runtime stands for another: environments need a registry
INSTALLED = ".".join(onnxruntime.__version__.split(".")[:2])


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    graph = "net (float[batch,8] x) => (float[batch,8] y) { y = Relu(x) }"
    net = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 20]> {graph}')
    onnx.save(net, "net.onnx")
    return Path("net.onnx")


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """This interpreter stands for every environment."""
    if INSTALLED not in {row.version for row in runtimes.runtimes()}:
        pytest.skip(f"the table has no ONNX Runtime {INSTALLED}")
    monkeypatch.setattr(environments, "made", lambda *_, **__: Path(sys.executable))


def test_every_release_has_a_line(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compat", str(model)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "file    IR version 10, opset ai.onnx 20"
    assert "1.17    does not load: IR version 10, and it reads 9 and older" in lines
    assert "1.18    loads" in lines
    assert max(map(len, lines)) <= 80
    told = [line.split()[0] for line in lines[1:] if not line.startswith(" ")]
    assert told == sorted(told, key=lambda version: tuple(map(int, version.split("."))))


def test_releases_stand_in_their_order_whatever_was_asked(
    model: Path, capsys: pytest.CaptureFixture[str]
):
    main(["compat", str(model), "--release=1.18", "--release=1.9", "--release=1.17"])
    lines = capsys.readouterr().out.splitlines()[1:]
    told = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert told == ["1.9", "1.17", "1.18"]


def test_one_release_decides_the_exit_status(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compat", str(model), "--release=1.18"]) == 0
    assert main(["compat", str(model), "--release=1.17"]) == 1
    assert main(["compat", str(model), "--release=0.9"]) == 1
    assert "ONNX Runtime 0.9: the table has 1.0, " in capsys.readouterr().err


def test_it_is_data_too(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compat", str(model), "--json", "--release=1.17"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["oldest"] == "1.18"
    (release,) = found["releases"]
    assert release["obstacles"] == ["IR version 10, and it reads 9 and older"]
    assert (release["loads"], release["agrees"]) == (False, True)
    assert pytest_onnxcheck.compat(model).oldest == "1.18"


@pytest.mark.usefixtures("here")
def test_it_is_run_in_the_release(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compat", str(model), "--run", f"--release={INSTALLED}"]) == 0
    out = capsys.readouterr().out
    assert f"{INSTALLED}    loads, run in {INSTALLED}." in out


@pytest.mark.usefixtures("here")
def test_what_it_says_in_the_release_is_told(model: Path, capsys: pytest.CaptureFixture[str]):
    net = onnx.load(model)
    net.ir_version = 99
    onnx.save(net, model)
    assert main(["compat", str(model), "--run", "--json", f"--release={INSTALLED}"]) == 1
    (release,) = json.loads(capsys.readouterr().out)["releases"]
    assert "IR version" in release["problem"]
    assert release["agrees"] is True


@pytest.mark.usefixtures("here")
def test_a_run_against_the_table_is_a_failure(
    model: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(runtimes, "obstacles", lambda *_: ["no such thing"])
    assert main(["compat", str(model), "--run", f"--release={INSTALLED}"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "THE TABLE SAYS OTHERWISE: no such thing" in out


def test_without_environments_nothing_is_made(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compat", str(model), "--run", "--no-environments", "--release=1.18"]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "loads (not run: the environment of onnxruntime==1.18.0 is not in" in out
    assert not Path(".onnxcheck/.environments").exists()
    assert main(["compat", str(model), "--no-environments"]) == 2


def test_what_is_no_model_is_told(model: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["compat", "other.onnx"]) == 1
    assert "other.onnx: not found" in capsys.readouterr().err
