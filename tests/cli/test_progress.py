"""Progress is for terminals alone, and no line runs into it."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

CODE = """
import sys
from pytest_onnxcheck.cli.progress import showing
from pytest_onnxcheck.progress import stage
with showing() as display:
    display.begin("3/5 best.pt")
    with stage("exporting", "best::dynamo-op20-fp32"):
        display.echo("the first line")
    with stage("comparing", "best"):
        pass
print("rich" in sys.modules)
"""


def test_nothing_of_it_is_in_a_log_file():
    ran = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("the first line\nFalse\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_a_line_stands_alone_in_a_terminal():
    import pty

    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=theirs, stdout=theirs, stderr=theirs, env=env
    ) as child:
        os.close(theirs)
        told = b""
        while True:
            try:
                read = os.read(ours, 4096)
            except OSError:  # the other side is closed
                break
            if not read:
                break
            told += read
        assert child.wait() == 0
    os.close(ours)
    text = told.decode()
    assert "3/5 best.pt: exporting best::dynamo-op20-fp32" in text
    # erased to the beginning of its line, then the line
    assert re.search(r"\r(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)*the first line\r\n", text), repr(text)
