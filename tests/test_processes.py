"""A child that crashes or hangs is told, and another takes its place."""

from __future__ import annotations

import os
import signal
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


def test_one_that_was_killed_between_two_questions_is_replaced(child: Child):
    _, pid = child.ask("first")
    process = child.start()
    os.kill(pid, signal.SIGKILL)
    process.wait()
    question, other = child.ask("second")
    assert (question, other == pid) == ("second", False)


def test_a_line_has_a_longest_length(monkeypatch):
    monkeypatch.setattr("pytest_onnxcheck.processes.LONGEST_LINE", 2**20)
    child = Child("-c", "import sys\nwhile True: sys.stdout.write('x' * 65536)")
    process = child.start()
    with pytest.raises(CrashError, match="it wrote a line of more than 1 MiB"):
        child.ask("anything")
    assert process.poll() is not None


def test_what_is_no_message_is_told():
    child = Child("-c", "input(); print('Traceback')")
    with pytest.raises(CrashError, match="it wrote what is no message"):
        child.ask("anything")


def test_one_may_send_several_messages_and_is_given_time_to_end(tmp_path):
    script = "for line in iter(input, '2'):\n  print(line, flush=True)\n  print(7, flush=True)"
    script += f"\nopen({str(tmp_path / 'ended')!r}, 'w')"
    child = Child("-c", script, patience=60)
    child.send(1)
    assert [child.receive(60), child.receive(60)] == [1, 7]
    child.send(2)
    child.close()
    assert (tmp_path / "ended").exists()


def test_one_that_does_not_start_is_told():
    with pytest.raises(CrashError, match="exit status 1") as caught:
        Child("-m", "no_such_module").ask("anything")
    assert "no_such_module" in caught.value.stderr_tail[-1]


def test_an_interrupted_question_is_not_answered_later(child: Child, monkeypatch):
    _, pid = child.ask("first")

    def interrupted(self, timeout=None):
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr("queue.Queue.get", interrupted)
    with pytest.raises(KeyboardInterrupt):
        child.ask("second")
    question, other = child.ask("third")
    assert (question, other == pid) == ("third", False)


def test_an_answer_may_take_minutes():
    assert ANSWER_SECONDS >= 300
