"""Libraries are left out of garbage collection, and what is garbage by then is not kept."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import atexit, gc, weakref
from pytest_onnxcheck.garbage import leave_out

class Node:
    pass

def cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)

@atexit.register
def end():
    print("at the end", gc.get_freeze_count() > frozen, gc.get_count()[0] < 100)

before = cycle()
gc.disable()
leave_out("library")
frozen = gc.get_freeze_count()
print("frozen", frozen > 1000, before() is None)
after = cycle()
leave_out("library")
print("once", gc.get_freeze_count() <= frozen, after() is not None)
gc.collect()
print("later", after() is None)
held = [[] for _ in range(1000)]
"""


def test_what_lives_is_left_out_once_and_at_the_end_and_garbage_is_collected():
    ran = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    assert ran.stdout.splitlines() == [
        "frozen True True",
        "once True True",
        "later True",
        "at the end True True",
    ]
