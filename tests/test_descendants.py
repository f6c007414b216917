"""What comes from a process is found, weighed and ended, wherever it went."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from pytest_onnxcheck.descendants import end_marked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone has what it needs")

#: starts a child that forks: one in its process group, and one that leaves it and whose parent ends
SCRIPT = """
import json, os, subprocess, sys, time
from pytest_onnxcheck.descendants import adopt, descendants, end_all, memory

adopt()
CHILD = '''
import os, time
os.setsid()
if os.fork() == 0:
    time.sleep(600)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        held = bytearray(64 * 2**20)
        print("ready", flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600)
'''
child = subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE)
child.stdout.readline()
found = descendants()
print(json.dumps([child.pid, found, memory(found), end_all(child.pid), descendants()]))
"""


def test_all_of_them_end():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60
    )
    child, found, held, others, left = json.loads(done.stdout)
    assert child in found
    assert len(found) == 3
    assert 64 * 2**20 < held < 256 * 2**20
    assert others == 2
    assert left == []


def test_what_carries_a_mark_ends_and_nothing_else():
    """Also what left its parent, and what was forked."""
    forks = "import os, time; os.setsid(); os.fork(); print(flush=True); time.sleep(600)"
    with started(forks, "1") as mine, started(forks, "12") as others:
        for each in (mine, others):
            each.stdout.read(2)  # the fork's is there too
        end_marked("ONNXCHECK_TEST_MARK=1")
        assert mine.wait(60) == -9
        assert mine.stdout.read() == b""  # the fork has closed it
        assert others.poll() is None
        end_marked("ONNXCHECK_TEST_MARK=12")
        assert others.wait(60) == -9


def started(script: str, mark: str) -> subprocess.Popen[bytes]:
    """A Python process with a mark in its environment."""
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "ONNXCHECK_TEST_MARK": mark},
        stdout=subprocess.PIPE,
    )
