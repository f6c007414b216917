"""What libraries say stays out of the report, and everything is as before afterwards."""

import logging
import os
import subprocess
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest

from pytest_onnxcheck.engine.quiet import quiet, said_once


def speak():
    print("progress")
    warnings.warn("a warning", UserWarning, stacklevel=2)
    logging.getLogger("library").warning("a log record")
    logging.getLogger("library").error("an error record")


def test_nothing_gets_through_and_the_warnings_are_given(capsys, caplog, recwarn):
    with quiet() as warned:
        speak()
        speak()
    assert capsys.readouterr().out == ""
    assert caplog.messages == []
    assert list(recwarn) == []
    assert [str(entry.message) for entry in warned] == ["a warning"] * 2


def test_records_above_the_level_get_through(caplog):
    with quiet(logging.WARNING):
        speak()
    assert caplog.messages == ["an error record"]


def test_inside_another_one_no_more_gets_through(caplog):
    with quiet(), quiet(logging.WARNING):
        speak()
    assert caplog.messages == []


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_as_before_afterwards(capsys, caplog, fails):
    root = logging.getLogger()
    before = root.manager.disable, root.level, warnings.filters[:]
    try:
        with quiet():
            root.setLevel(logging.DEBUG)  # as some libraries do when they are imported
            if fails:
                raise ValueError
    except ValueError:
        pass
    assert (root.manager.disable, root.level, warnings.filters[:]) == before
    print("heard")
    assert capsys.readouterr().out == "heard\n"


def failing_session():
    """A session that fails at every run: ONNX Runtime says so on file descriptor 2 each time."""
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[n] x) => (float[m] y)
        <int64[1] shape = {7}> { y = Reshape (x, shape) }"""
    model = onnx.parser.parse_model(text).SerializeToString()
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def fail(session, size):
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail):
        session.run(None, {"x": np.zeros(size, np.float32)})


def test_what_onnx_runtime_repeats_is_said_once_with_how_often(capfd):
    session = failing_session()
    capfd.readouterr()
    fail(session, 2)
    assert "running Reshape node" in capfd.readouterr().err  # it does say it
    with said_once():
        for size in (2, 3, 40):
            fail(session, size)
        os.write(2, b"another library\nanother library\n")
        assert capfd.readouterr().err == ""
    first, *others = capfd.readouterr().err.splitlines()
    assert first.startswith("onnxruntime [E] Non-zero status code returned while running Reshape")
    assert first.endswith(" (said 3 times)")
    assert "{2}" in first  # the first of them
    assert others == ["another library"] * 2


def test_what_it_says_once_is_not_counted_and_an_error_does_not_hide_it(capfd):
    session = failing_session()
    capfd.readouterr()

    def check():
        with said_once():
            fail(session, 2)
            raise ValueError("of the check")

    with pytest.raises(ValueError, match="of the check"):
        check()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("onnxruntime [E] Non-zero")
    assert "said" not in line
    with said_once():
        pass
    assert capfd.readouterr().err == ""


PRINTED_IN_C = """
import ctypes

from pytest_onnxcheck.engine.quiet import caught_stdout

libc = ctypes.CDLL(None)
libc.puts(b"before")
with caught_stdout() as caught:
    libc.puts(b"the graph")
print(caught)
"""


@pytest.mark.skipif(os.name != "posix", reason="reaches C's puts")
def test_what_c_holds_back_is_caught_where_stdout_is_no_terminal():
    """As in CI, and unless PYTHONUNBUFFERED takes C's buffer away."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", PRINTED_IN_C]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["before", "['the graph\\n']"]
