"""Every command's help: as people see it at 80 columns, and without anything slow."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_onnxcheck.cli import commands, main

SNAPSHOTS = Path(__file__).parent / "snapshots"

#: what takes long to import, and no help needs
SLOW = ("torch", "onnx", "onnxruntime", "numpy", "pydantic", "pytest", "rich")


@pytest.mark.parametrize("command", ["", *commands()])
def test_help_is_what_it_was_and_fits(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """`ONNXCHECK_SNAPSHOTS=1 pytest tests/cli/test_help.py` writes them anew."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command.split(), "--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    path = SNAPSHOTS / f"help-{command or 'onnxcheck'}.txt"
    if "ONNXCHECK_SNAPSHOTS" in os.environ:
        path.write_text(text)
    assert path.read_text() == text


def test_the_list_of_commands_cuts_no_sentence(capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0
    commands_told = capsys.readouterr().out.partition("Commands:")[2]
    assert "..." not in commands_told


def test_every_snapshot_is_of_a_command():
    assert {path.stem for path in SNAPSHOTS.glob("help-*.txt")} == {
        f"help-{command}" for command in ["onnxcheck", *commands()]
    }


def test_help_imports_nothing_slow():
    code = (
        "import sys\nfrom pytest_onnxcheck.cli import commands, main\n"
        "for command in commands(): main([command, '--help'])\n"
        f"print([name for name in {SLOW} if name in sys.modules], file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stderr == "[]\n"


def test_wrong_usage_is_2(capsys: pytest.CaptureFixture[str]):
    assert main(["frontier"]) == 2
    assert "Missing argument 'RECORD'" in capsys.readouterr().err
    assert main(["schema", "--record", "--markdown"]) == 2
    assert "give one of --markdown (which is of the manifest), --record" in capsys.readouterr().err
    assert main(["validat"]) == 2
    assert "No such command 'validat'" in capsys.readouterr().err
