"""A child that crashes or hangs is told, and another takes its place."""

from __future__ import annotations

import time

import pytest

from pytest_onnxcheck.processes import ANSWER_SECONDS, Child, CrashError, HangError

ANSWERING = """
import os
import sys
import time

from pytest_onnxcheck.processes import serve


def answer(question):
    os.write(1, b"printed by a library\\n")
    if question == "hang":
        print("waiting for a device", file=sys.stderr, flush=True)
        time.sleep(600)
    if question == "abort":
        os.abort()
    if question == "exit":
        for number in range(5):
            print(f"line {number}", file=sys.stderr, flush=True)
        os._exit(3)
    return [question, os.getpid()]


serve(answer, lambda: os.write(1, b"printed while it was loaded\\n"))
"""


@pytest.fixture
def child():
    child = Child("-c", ANSWERING)
    yield child
    child.close()


def test_it_answers_one_question_after_the_other(child: Child):
    pid = child.start().pid
    assert child.ask({"a": [1, None]}) == [{"a": [1, None]}, pid]
    assert child.ask("zwölf\n") == ["zwölf\n", pid]


def test_one_that_hangs_is_killed_and_replaced(child: Child):
    _, pid = child.ask("first")
    process = child.start()
    assert process.pid == pid
    started = time.monotonic()
    with pytest.raises(HangError, match=r"^did not answer within 0\.5 s$") as caught:
        child.ask("hang", timeout=0.5)
    assert time.monotonic() - started < 60
    assert caught.value.seconds == 0.5
    assert process.poll() is not None
    question, other = child.ask("next")
    assert question == "next"
    assert other != pid


def test_one_that_hangs_before_its_first_answer_is_killed():
    child = Child("-c", "import time; time.sleep(600)")
    process = child.start()
    with pytest.raises(HangError):
        child.ask("anything", timeout=0.2)
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("question", "how", "stderr_tail"),
    [
        ("abort", "SIGABRT", ()),
        ("exit", "exit status 3", ("line 2", "line 3", "line 4")),
    ],
)
def test_one_that_crashes_is_told_with_its_last_words(child: Child, question, how, stderr_tail):
    with pytest.raises(CrashError) as caught:
        child.ask(question)
    assert (caught.value.how, str(caught.value)) == (how, f"crashed ({how})")
    # a library may have printed to stderr first, where stdout leads
    assert [line for line in caught.value.stderr_tail if line.startswith("line")] == list(
        stderr_tail
    )
    assert child.ask("next")[0] == "next"


def test_half_a_line_is_no_answer():
    child = Child("-c", "import os; input(); os.write(1, b'[1'); os._exit(1)")
    with pytest.raises(CrashError, match="exit status 1"):
        child.ask("anything")


def test_one_that_does_not_start_is_told():
    with pytest.raises(CrashError, match="exit status 1") as caught:
        Child("-m", "no_such_module").ask("anything")
    assert "no_such_module" in caught.value.stderr_tail[-1]


def test_an_interrupted_question_is_not_answered_later(child: Child, monkeypatch):
    _, pid = child.ask("first")

    def interrupted(self, timeout=None):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("threading.Thread.join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        child.ask("second")
    question, other = child.ask("third")
    assert (question, other == pid) == ("third", False)


def test_an_answer_may_take_minutes():
    assert ANSWER_SECONDS >= 300
