"""A child that hangs, crashes, eats or forks is ended and told; the supervisor itself goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from isolation import marked, none_left

from pytest_onnxcheck.progress import Stage
from pytest_onnxcheck.supervised.limits import Clock, Death, Limits
from pytest_onnxcheck.supervised.supervisor import _innermost

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")

#: a supervisor whose children do what they are asked for, by name, in a stage of that name
SCRIPT = """
import ctypes, json, os, signal, sys, time
from pathlib import Path
from pytest_onnxcheck.descendants import adopt, end_all
from pytest_onnxcheck.supervised import supervisor
from pytest_onnxcheck.supervised.supervisor import Supervisor

adopt()


def work(requests, messages):
    global MESSAGES
    MESSAGES = messages
    for line in os.fdopen(requests, "rb"):
        name = json.loads(line)["run"]
        say(messages, {"phase": "check"})
        say(messages, {"stage": {"doing": name, "what": "net"}})
        globals()[name]()
        say(messages, {"stage": None})
        say(messages, {"done": os.getpid()})


def say(messages, message):
    os.write(messages, json.dumps(message).encode() + b"\\n")


def nothing(): pass
def loops():
    while True: pass
def sleeps_in_c(): ctypes.CDLL(None).pause()
def aborts(): os.abort()
def exits(): os._exit(3)
def raises(): raise LookupError("from the child")
def eats():
    held = []
    while True: held.append(bytearray(b"x") * 2**22)
def asks_for_too_much(): bytearray(2**50)
def half_a_line(): os.write(MESSAGES, b'{"done":'); os.abort()
def floods():
    while True: os.write(MESSAGES, b"x" * 65536)
def forks():
    if os.fork() == 0:
        os.setsid()
        os.fork()
        while True: time.sleep(1)
    os.wait()
def leaves():
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)


def end_all_at_a_signal(group):
    os.kill(os.getpid(), signal.SIGTERM)  # one that arrives at the worst moment
    return end_all(group)


if "signal" in sys.argv:
    supervisor.end_all = end_all_at_a_signal
answers = os.fdopen(os.dup(1), "w")
Supervisor(os.dup(0), answers, work, Path(sys.argv[1])).serve()
"""


class Talk:
    """A supervisor, its messages but for stages, and a mark on its processes."""

    def __init__(self, folder, *args):
        (folder / "script.py").write_text(SCRIPT)
        self.mark = str(folder)
        self.process = subprocess.Popen(
            [sys.executable, folder / "script.py", folder, *args],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "ONNXCHECK_TEST": self.mark},
        )

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        while True:
            message = json.loads(self.process.stdout.readline())
            if not message.keys() & {"phase", "stage"}:
                return message

    def run(self, name, *, memory=None, **seconds):
        return self.ask(run=name, limits={"seconds": seconds, "memory": memory})

    def dies(self, name, *, memory=None, **seconds):
        return Death.from_json(self.run(name, memory=memory, **seconds)["died"])


@pytest.fixture
def talk(tmp_path):
    talk = Talk(tmp_path)
    yield talk
    talk.process.communicate(timeout=60)
    assert none_left(talk.mark)


def test_one_child_does_what_it_is_asked_for_until_it_is_ended(talk):
    first, second = talk.run("nothing")["done"], talk.run("nothing")["done"]
    assert first == second
    assert talk.ask(end=True) == {"ended": 0}
    assert talk.ask(end=True) == {"ended": 0}
    assert talk.run("nothing")["done"] != first


@pytest.mark.parametrize("name", ["loops", "sleeps_in_c", "forks"])
def test_one_that_takes_too_long_is_ended_where_it_is(talk, name):
    before = talk.run("nothing")["done"]
    death = talk.dies(name, **{name: 0.2})
    assert (death.how, death.stage, death.phase) == ("time", Stage(name, "net"), "check")
    assert death.seconds[name] >= 0.2
    assert death.doing == name
    assert death.where.startswith("script.py:")
    assert death.where.endswith(f"in {name}")
    assert none_left_but_one(talk)
    assert talk.run("nothing")["done"] != before


def none_left_but_one(talk):
    return len(marked(talk.mark)) == 1


@pytest.mark.parametrize(
    ("name", "how"),
    [("aborts", "SIGABRT"), ("exits", "exit status 3"), ("raises", "exit status 1")],
)
def test_one_that_ends_is_told_with_its_signal_or_status(talk, name, how):
    death = talk.dies(name)
    assert (death.how, death.stage) == (how, Stage(name, "net"))
    assert talk.run("nothing").keys() == {"done"}


def test_one_that_holds_too_much_is_ended(talk):
    death = talk.dies("eats", memory=200_000_000)
    assert death.how == "memory"
    assert 200_000_000 < death.held < 600_000_000


def test_what_one_process_may_ask_for_has_a_bound_too(talk):
    assert talk.dies("asks_for_too_much", memory=200_000_000).how == "exit status 1"


@pytest.mark.parametrize("name", ["half_a_line", "floods"])
def test_what_is_no_message_does_no_harm(talk, name):
    assert talk.dies(name).how in ("SIGABRT", "SIGKILL")
    assert talk.run("nothing").keys() == {"done"}


def test_what_a_child_leaves_behind_is_ended_and_counted(talk):
    talk.run("leaves")
    assert talk.ask(end=True) == {"ended": 1}
    assert none_left_but_one(talk)


def test_it_ends_with_its_parent(talk):
    talk.process.stdin.write(json.dumps({"run": "loops", "limits": {}}) + "\n")
    talk.process.stdin.flush()
    while "stage" not in json.loads(talk.process.stdout.readline()):
        pass
    assert len(marked(talk.mark)) == 2


@pytest.mark.parametrize("doing", ["nothing", "sleeps_in_c"])
def test_sigterm_ends_it_whatever_it_does(talk, doing):
    talk.process.stdin.write(json.dumps({"run": doing, "limits": {"seconds": {}, "memory": None}}))
    talk.process.stdin.write("\n")
    talk.process.stdin.flush()
    until = "done" if doing == "nothing" else "stage"
    while until not in json.loads(talk.process.stdout.readline()):
        pass
    talk.process.send_signal(signal.SIGTERM)
    assert talk.process.wait(60) == 0
    assert none_left(talk.mark)


def test_a_signal_while_it_ends_a_model_leaves_no_process(tmp_path):
    talk = Talk(tmp_path, "signal")
    assert talk.dies("forks", forks=0.5).how == "time"
    assert talk.process.wait(60) == 0
    assert none_left(talk.mark)
    talk.process.communicate()


def test_its_child_ends_with_it(talk):
    talk.process.stdin.write(json.dumps({"run": "loops", "limits": {}}) + "\n")
    talk.process.stdin.flush()
    while "stage" not in json.loads(talk.process.stdout.readline()):
        pass
    talk.process.send_signal(signal.SIGKILL)
    assert none_left(talk.mark)


def test_where_it_is_is_the_users_line_or_that_of_a_library(tmp_path):
    own = f'  File "{tmp_path}/nets.py", line 3 in forward\n'
    library = '  File "/env/lib/python3.11/site-packages/onnxruntime/capi/c.py", line 9 in run\n'
    others = '  File "/usr/lib/python3.11/threading.py", line 327 in wait\n'
    others += '  File "/env/lib/python3.11/site-packages/pytest_onnxcheck/a.py", line 1 in run\n'
    assert _innermost(others + library + own, tmp_path) == "nets.py:3 in forward"
    assert _innermost(others + library, tmp_path) == "onnxruntime/capi/c.py:9 in run"
    assert _innermost(others, tmp_path) == ""


def test_a_clock_counts_a_stage_without_the_stages_inside_it(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    clock = Clock(Limits({"*": 10.0, "exporting": 3.0}))
    now = 1.0
    clock.now("setup", Stage("exporting", "net"))
    now = 3.0
    assert clock.left == 1.0
    clock.now("setup", Stage("opening a session", "net"))
    now = 4.0
    assert clock.left == 9.0
    clock.now("setup", Stage("exporting", "net"))
    assert clock.left == 1.0
    now = 5.5
    assert clock.left == -0.5
    clock.now("check", None)
    assert clock.seconds == {"setup": 1.0, "exporting": 3.5, "opening a session": 1.0, "check": 0.0}


def test_a_stage_without_a_limit_may_take_for_ever():
    limits = Limits({"exporting": 3.0})
    assert (limits.of("exporting"), limits.of("check")) == (3.0, float("inf"))
