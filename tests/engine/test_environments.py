"""Environments that are made for a target."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pytest_onnxcheck.engine import environments
from pytest_onnxcheck.engine.environments import made, node_modules
from pytest_onnxcheck.errors import RunError, TargetAbsent


def wheel(folder: Path) -> Path:
    """A package of one module, which needs no registry."""
    path = folder / "tiny_there-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny_there.py", "NAME = 'there'\n")
        about = "tiny_there-1.0.dist-info"
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: tiny-there\nVersion: 1.0\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return path


def folders(kept: Path) -> list[str]:
    """What environments there are, whole or not; `.runs` says who uses which."""
    return [path.name for path in kept.iterdir() if path.is_dir() and path.name != ".runs"]


def test_it_is_made_once_and_is_whole_where_it_was_moved_to(tmp_path: Path, monkeypatch):
    wanted = [f"tiny-there @ {wheel(tmp_path).as_uri()}"]
    kept = tmp_path / "kept"
    python = made(wanted, kept)
    code = "import sys, tiny_there; print(sys.prefix, tiny_there.__file__)"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    prefix, file = done.stdout.split()
    assert Path(prefix).samefile(python.parent.parent)
    assert Path(file).is_relative_to(prefix)
    monkeypatch.setattr(environments, "_make", None)  # none is made any more
    assert made(wanted, kept) == made(wanted, kept, make=False) == python
    assert folders(kept) == [python.parent.parent.name]


def test_one_that_cannot_be_made_says_why_and_leaves_nothing_behind(tmp_path: Path, monkeypatch):
    uv = tmp_path / "uv.py"
    uv.write_text(
        "import pathlib, sys\n"
        "if sys.argv[1] == 'venv': pathlib.Path(sys.argv[-1], 'bin').mkdir(parents=True)\n"
        "else: sys.exit(f'no version of {sys.argv[-1]} in the registry')\n"
    )
    monkeypatch.setattr(environments, "_uv", lambda: [sys.executable, str(uv)])
    with pytest.raises(RunError) as raised:
        made(["onnxruntime==0.0.1", "numpy"], tmp_path / "kept")
    assert not isinstance(raised.value, TargetAbsent)
    assert str(raised.value) == (
        "the environment of onnxruntime==0.0.1, numpy cannot be made by uv.py: no version of numpy "
        "in the registry; mend `environment`, name an interpreter (`python`), or use "
        "--onnxcheck-no-environments"
    )
    assert not folders(tmp_path / "kept")


def test_where_none_may_be_made_it_is_absent(tmp_path: Path):
    with pytest.raises(TargetAbsent, match=r"the environment of onnxruntime==1.0 is not in "):
        made(["onnxruntime==1.0"], tmp_path / "kept", make=False)
    assert not (tmp_path / "kept").exists()


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot be kept in .*--onnxcheck-cache=DIR"):
        made(["onnxruntime"], tmp_path / "file" / "kept")


def test_an_interpreter_that_makes_none_is_told(tmp_path: Path):
    with pytest.raises(RunError, match="cannot be made"):
        made(["onnxruntime"], tmp_path, python="/no/such/python")


@pytest.mark.parametrize(
    ("wanted", "completed"),
    [
        (["onnxruntime==1.17.0"], ["onnxruntime==1.17.0", "numpy<2"]),
        (["onnxruntime-openvino == 1.18.0"], ["onnxruntime-openvino == 1.18.0", "numpy<2"]),
        (["onnxruntime==1.17.0", "numpy==1.26.4"], ["onnxruntime==1.17.0", "numpy==1.26.4"]),
        (["onnxruntime==1.19.2"], ["onnxruntime==1.19.2"]),
        (["onnxruntime==1.20.1"], ["onnxruntime==1.20.1"]),
    ],
)
def test_an_old_onnxruntime_gets_the_numpy_it_was_built_for(wanted, completed):
    assert environments._completed(wanted) == completed


def test_passwords_in_addresses_are_not_told(monkeypatch, tmp_path: Path):
    said = "print('https://me:secret@registry/simple: 404', file=__import__('sys').stderr); exit(1)"
    with pytest.raises(RunError, match=r"https://\*\*\*\*@registry/simple: 404") as raised:
        environments._run([sys.executable, "-c", said], "onnxruntime", "mend it")
    assert "secret" not in str(raised.value)


def program(path: Path, *lines: str) -> Path:
    """Writes a program that stands for npm."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def lock(folder: Path) -> Path:
    """A lock of one package."""
    (folder / "package.json").write_text("{}")
    path = folder / "package-lock.json"
    path.write_text('{"packages": {"": {"dependencies": {"onnxruntime-web": "1.30.0"}}}}')
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_packages_of_npm_are_installed_once_from_the_lock(tmp_path: Path):
    said = f"echo $* >> {tmp_path}/said"
    npm = program(tmp_path / "npm", said, "cat $3/package-lock.json > $3/installed")
    wanted, node = lock(tmp_path), str(npm.with_name("node"))
    first = node_modules(wanted, tmp_path / "kept", node=node)
    assert (first / "installed").read_text() == wanted.read_text()
    assert node_modules(wanted, tmp_path / "kept", node=node, make=False) == first
    (asked,) = (tmp_path / "said").read_text().splitlines()
    assert asked.startswith("ci --prefix ")
    assert "--ignore-scripts" in asked


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_an_npm_that_fails_is_told_and_leaves_nothing_behind(tmp_path: Path):
    npm = program(tmp_path / "npm", "echo no such registry >&2", "exit 1")
    with pytest.raises(RunError) as raised:
        node_modules(lock(tmp_path), tmp_path / "kept", node=str(npm.with_name("node")))
    assert str(raised.value) == (
        "the environment of onnxruntime-web 1.30.0 cannot be made by npm: no such registry; see "
        "whether npm reaches its registry, or use --onnxcheck-no-environments"
    )
    assert not folders(tmp_path / "kept")


def test_without_npm_the_target_is_absent(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetAbsent, match=r"no npm, which installs onnxruntime-web 1\.30\.0"):
        node_modules(lock(tmp_path), tmp_path / "kept", node=str(tmp_path / "node"))
