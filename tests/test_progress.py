"""What is being done is told to whoever listens or counts, and shown in a terminal alone."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import threading
import types
from typing import get_args

import pytest
from project import LEAN, Project, mlps

from pytest_onnxcheck import progress
from pytest_onnxcheck.manifest.terms import StageWord
from pytest_onnxcheck.places import PACKAGE
from pytest_onnxcheck.plugin import ticker
from pytest_onnxcheck.progress import Stage, stage, staged, watched

CLEARED = b"\n\r\x1b[2K\x1b[1A"


@pytest.fixture
def heard():
    found = []
    progress.listen(found.append)
    yield found
    progress.listen(None)


def test_the_innermost_stage_is_told_until_the_outermost_ends(heard):
    with stage("comparing", "net", "fp32"), pytest.raises(KeyError), stage("loading", "net"):
        raise KeyError
    outer, inner = Stage("comparing", "net::fp32"), Stage("loading", "net")
    assert heard == [outer, inner, outer, None]


def test_a_function_is_a_stage_named_by_its_arguments(heard):
    @staged("searching", lambda name, *_: (name, "v"))
    def search(name, seconds):
        return name * seconds

    assert search("net", 2) == "netnet"
    assert heard == [Stage("searching", "net::v"), None]


def test_without_anybody_who_listens_or_watches_what_is_done_is_done_all_the_same():
    done = []
    with stage("loading", "net"):
        done.append("net")
    assert done == ["net"]


@pytest.fixture
def clock(monkeypatch):
    clock = types.SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    return clock


def test_what_no_stage_accounts_for_is_the_rest(clock, heard):
    found: dict[str, float] = {}
    with watched(found, "setup"):
        clock.now += 1
        with stage("exporting", "net"):
            clock.now += 2
            with stage("loading", "net"):
                clock.now += 4
        clock.now += 8
    with watched(found, "check"), stage("exporting", "net"):
        clock.now += 16
    assert found == {"setup": 9, "exporting": 18, "loading": 4, "check": 0}
    assert len(heard) == 6


def test_a_stage_that_fails_is_counted(clock):
    found: dict[str, float] = {}

    def export() -> None:
        with watched(found, "setup"), stage("exporting", "net"):
            clock.now += 2
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        export()
    assert found == {"exporting": 2, "setup": 0}


class Writer:
    width_of_current_line = 12


@pytest.fixture
def terminal(monkeypatch):
    """Reads what is written to a terminal of 80 columns, until something is."""
    monkeypatch.setattr(ticker, "_AFTER", 0.0)
    parent, child = pty.openpty()
    shown = bytearray()

    def until(text):
        while text not in shown:
            assert select.select([parent], [], [], 60)[0], "nothing was written"
            shown.extend(os.read(parent, 1024))
        return bytes(shown)

    yield child, until
    os.close(parent)


def test_a_stage_is_shown_below_the_line_and_leaves_nothing_behind(terminal):
    child, until = terminal
    found = ticker.Ticker(Writer(), child)
    found(Stage("exporting", "net::fp32"))
    shown = until(b"G")
    # one line down, the text, and back to where pytest's own line ends
    assert re.search(rb"\n\r\x1b\[2Knet::fp32  exporting  \d+ s\x1b\[1A\x1b\[13G", shown)
    found(None)
    assert until(CLEARED).endswith(CLEARED + b"\x1b[13G") or until(CLEARED + b"\x1b[13G")
    found.close()
    assert not any(thread.name == "onnxcheck" for thread in threading.enumerate())


def test_what_is_longer_than_a_line_is_cut(terminal):
    child, until = terminal
    found = ticker.Ticker(Writer(), child)
    found(Stage("exporting", "n" * 200))
    shown = until("…".encode()).decode()
    text = shown.rpartition("\x1b[2K")[2]
    assert len(text.partition("\x1b")[0]) == 79
    found.close()


SHOWING = """
from pytest_onnxcheck.plugin import ticker

ticker._AFTER = 0.0
"""


def in_terminal(project, *args, status=0, **env):
    """What a run writes to a terminal of 120 columns."""
    parent, child = pty.openpty()
    termios.tcsetwinsize(child, (40, 120))
    command = [sys.executable, "-m", "pytest", *LEAN, "--onnxcheck", *args]
    usual = {
        name: value for name, value in os.environ.items() if name not in ("CI", "BUILD_NUMBER")
    }
    run = subprocess.Popen(
        command,
        cwd=project.path,
        env={**usual, "TERM": "xterm", "COLUMNS": "", **env},
        stdin=subprocess.DEVNULL,
        stdout=child,
        stderr=subprocess.STDOUT,
    )
    os.close(child)
    shown = bytearray()
    while True:
        try:
            shown += os.read(parent, 4096)
        except OSError:  # the other end is closed
            break
    os.close(parent)
    assert run.wait() == status, shown.decode()
    return bytes(shown)


def test_a_run_in_a_terminal_shows_stages_and_clears_them(project: Project):
    (project.path / "conftest.py").write_text(SHOWING)
    project.manifest(mlps("net"))
    shown = in_terminal(project, "-m", "export", "--junitxml=junit.xml", "-rA")
    assert b"exporting  0 s" in shown
    assert shown.rindex(CLEARED.replace(b"\n", b"\r\n")) > shown.rindex(b" s\x1b[1A")
    assert "exporting" not in (project.path / "junit.xml").read_text()


def test_a_failure_is_as_wide_as_the_terminal_and_a_ci_log_has_no_stages(project: Project):
    (project.path / "conftest.py").write_text(SHOWING)
    project.manifest(f"{mlps('net')}budget.fp16.max_size_ratio = 0.1\n", 'precisions = ["fp16"]')
    shown = in_terminal(project, "-m", "quantization", "--color=no", status=1, CI="1").decode()
    ratio = r"size ratio: \d\.\d+ of the fp32 artefact's \d+ bytes, allowed 0\.1"
    line = re.search(rf"\n({ratio} \(budget\.max_size_ratio\))\r\n", shown)
    assert line is not None, shown
    assert 80 < len(line[1]) <= 120
    assert "exporting" not in shown


def test_what_is_written_to_a_file_has_nothing_of_it(project: Project):
    (project.path / "conftest.py").write_text(SHOWING)
    project.manifest(mlps("net"))
    result = project.run("-m", "export")
    assert result.ret == 0
    assert not any("exporting" in line or "\x1b" in line for line in result.outlines)


def test_every_stage_of_a_check_may_have_a_limit():
    engine = PACKAGE / "engine"
    sources = {path: path.read_text() for path in engine.rglob("*.py")}
    named = {
        word
        for text in sources.values()
        for word in re.findall(r"""\bstaged?\(\s*"([^"]+)\"""", text)
    }
    words = set(get_args(StageWord))
    assert named - words == set()
    outside = {"*", "setup", "check", "teardown"}
    assert {
        word for word in words - outside if f'"{word}"' not in "".join(sources.values())
    } == set()
