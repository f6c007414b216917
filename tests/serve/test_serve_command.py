"""`onnxcheck serve`: where it is, what it refuses, and its end."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from served import small_project

from pytest_onnxcheck.cli import main
from pytest_onnxcheck.descendants import descendants

TOKEN = "a-token-of-a-decent-length"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("ONNXCHECK_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    small_project(tmp_path)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that is told in place of a start."""
    assert main(["serve", "--api", *arguments]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


@pytest.mark.parametrize(
    "arguments",
    [("--host", "0.0.0.0"), ("--host", "::"), ("--allowed-host", "onnx.example.com")],
    ids=" ".join,
)
def test_nobody_else_reaches_it_without_a_token(folder: Path, capsys, arguments):
    told = refused(capsys, *arguments)
    assert told.startswith(f"{arguments[1]}: others than this machine can reach it")
    assert "set ONNXCHECK_TOKEN" in told


def test_the_blocks_of_the_docs_that_open_it_to_others_set_a_token():
    text = (Path(__file__).parents[2] / "docs" / "http-api.md").read_text()
    blocks = [
        block
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
        if re.search("onnxcheck serve.* --(host|allowed-host)", block)
    ]
    assert len(blocks) == 2
    assert all("export ONNXCHECK_TOKEN=" in block for block in blocks)


def test_a_token_is_not_to_be_guessed(folder: Path, capsys):
    told = refused(capsys, "--token", "secret")
    assert told.startswith("the token has 6 characters, at least 16 are needed")


def test_a_port_that_is_in_use(folder: Path, capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        told = refused(capsys, "--port", str(port))
    assert told.startswith(f"127.0.0.1:{port}: cannot listen there: Address already in use: ")
    assert "--port" in told


def test_an_address_of_another_machine(folder: Path, capsys):
    told = refused(capsys, "--host", "203.0.113.5", "--token", TOKEN)
    assert "name an address of this machine with --host" in told


def test_a_manifest_that_is_not_there_or_wrong(folder: Path, capsys):
    assert "no such manifest" in refused(capsys, "--manifest", "nothing.toml")
    (folder / "models.toml").write_text("schema = 1\n[models]")
    assert "no models" in refused(capsys)


def test_a_store_that_is_none(folder: Path, capsys):
    told = refused(capsys, "--port", "0", "--store", "https://user:secret@example.com")
    assert "redis://" in told
    assert "secret" not in told


def test_jobs_need_linux_and_the_rest_does_not(folder: Path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    told = refused(capsys, "--port", "0")
    assert told.startswith("jobs are run on Linux alone")
    assert "onnxcheck serve --no-worker here" in told


@pytest.mark.parametrize("command", ["serve", "worker"])
@pytest.mark.parametrize("option", ["--cache-remote", "--release-to"])
@pytest.mark.parametrize(
    ("address", "text"),
    [
        ("gs://bucket/builds", "gs://… is no store that is known here: write s3://BUCKET/PREFIX"),
        ("s3://key:secret@bucket", "an address of s3: has no @ before the first slash"),
        ("file://folder", "'file://folder' names no folder: write file:///FOLDER"),
    ],
)
def test_an_address_that_is_none_is_told_at_the_start(
    folder: Path, capsys, command, option, address, text
):
    assert main([command, option, address]) == 2
    told = capsys.readouterr().err
    assert f"Invalid value for '{option}': {text}" in told
    assert "secret" not in told


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_key_that_cannot_sign_is_told_at_the_start(folder: Path, capsys, command):
    (folder / "key.pem").write_text("no key")
    assert main([command, "--sign", "key.pem"]) == 1
    told = capsys.readouterr().err
    assert f"{folder / 'key.pem'} holds no private key in PEM: sign with a private one" in told
    assert main([command, "--sign", "kye.pem"]) == 1
    assert "did you mean 'key.pem'?" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_where_nothing_can_be_published_is_told_at_the_start(folder: Path, capsys, command):
    (folder / "releases").write_text("in the way")
    assert main([command, "--release-to", "releases"]) == 1
    told = capsys.readouterr().err
    assert str(folder / "releases") in told
    assert len(told.splitlines()) == 1


def test_what_it_needs_is_named(folder: Path, capsys, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "pytest_onnxcheck.serve.starting", raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    for name in [name for name in sys.modules if name.startswith("pytest_onnxcheck.serve.http")]:
        monkeypatch.delitem(sys.modules, name)
    told = refused(capsys)
    assert told == (
        "onnxcheck serve needs fastapi: pip install '/path/to/the/clone[panel]', "
        "pytest-onnxcheck's, which is not on PyPI yet\n"
    )


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_all_that_it_started(folder: Path, signum: signal.Signals):
    with subprocess.Popen(
        [sys.executable, "-m", "pytest_onnxcheck.cli", "serve", "--api", "--port", "0"],
        env={**os.environ, "ONNXCHECK_TOKEN": TOKEN},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("onnxcheck serves models.toml at http://127.0.0.1:")
        assert TOKEN not in line
        url = line.split(" at ")[1].split("/api/")[0]
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with httpx.Client(base_url=url, headers=headers, timeout=30) as client:
            assert httpx.get(f"{url}/api/models").status_code == 401
            job = client.post("/api/models/mlp/gate").json()["id"]
            while client.get(f"/api/jobs/{job}").json()["state"] == "queued":
                time.sleep(0.05)
            with client.stream("GET", f"/api/jobs/{job}/events") as stream:
                lines = stream.iter_lines()
                next(lines)  # a page that listens does not keep it from ending
                started = [pid for pid in descendants() if _parent(pid) != os.getpid()]
                assert started
                environments = b"".join(
                    Path(f"/proc/{pid}/environ").read_bytes() for pid in started
                )
                process.send_signal(signum)
                status = process.wait(30)
        assert TOKEN.encode() not in environments
        assert status == (130 if signum == signal.SIGINT else 0)
        assert "Traceback" not in process.stderr.read()
        assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]


def test_it_can_be_ended_as_soon_as_it_says_where_it_is(folder: Path):
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, "-m", "pytest_onnxcheck.cli", "serve", "--api", "--port", "0"],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("onnxcheck serves ")
            process.terminate()
            assert (process.wait(30), process.stderr.read()) == (0, "")


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
