"""Options reach ONNX Runtime, and what it prints is caught at the file descriptor."""

from __future__ import annotations

import os
import sys

import onnx
import onnxruntime
import pytest

from pytest_onnxcheck.engine.runtime.opening import printed
from pytest_onnxcheck.engine.runtime.worker import open_handle
from pytest_onnxcheck.manifest.targets import CPU


def model() -> bytes:
    return onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Relu (x) }'
    ).SerializeToString()


def opened(session_options=None, provider_options=None, **how):
    return open_handle(model(), CPU.provider, provider_options or {}, session_options or {}, **how)


def entry(handle, name: str) -> str:
    return handle.get_session_options().get_session_config_entry(name)


def test_session_options_reach_the_session():
    handle = opened(
        {
            "session.disable_prepacking": True,
            "session.intra_op.allow_spinning": "1",
            "graph_optimization_level": "basic",
            "intra_op_num_threads": 2,
            "enable_mem_pattern": False,
        }
    )
    options = handle.get_session_options()
    assert entry(handle, "session.disable_prepacking") == "1"
    assert entry(handle, "session.intra_op.allow_spinning") == "1"
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert (options.intra_op_num_threads, options.enable_mem_pattern) == (2, False)


def test_threads_that_are_asked_for_and_plain_graphs_come_before_the_options():
    wanted = {"intra_op_num_threads": 4, "graph_optimization_level": "extended"}
    options = opened(wanted, threads=1, optimise=False).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (1, 1)
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


def test_threads_are_those_of_the_environment_where_nobody_says_how_many(monkeypatch):
    def threads(options=None, **how):
        return opened(options or {}, **how).get_session_options().intra_op_num_threads

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert (threads(), threads({"intra_op_num_threads": 2}), threads(threads=1)) == (3, 2, 1)
    for nonsense in ("", "0", "two", "2,1"):
        monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
        assert threads() == 0  # as many as ONNX Runtime likes


def test_openvinos_threads_are_those_that_are_asked_for(monkeypatch):
    given: list = []
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *args, **how: given.append(how))
    options = {"num_of_threads": 8}
    open_handle("m.onnx", "OpenVINOExecutionProvider", options, {}, threads=1)
    open_handle("m.onnx", "OpenVINOExecutionProvider", options, {})
    assert [how["providers"][0][1] for how in given] == [
        {"num_of_threads": "1"},
        {"num_of_threads": "8"},
    ]


def test_threads_do_not_spin_unless_told_to():
    assert entry(opened(), "session.intra_op.allow_spinning") == "0"


def test_an_option_that_is_refused_is_an_error_and_no_fallback(capfd):
    with pytest.raises(RuntimeError, match="Processor id must consist of only digits: first"):
        opened({"session.intra_op_thread_affinities": "first"}, threads=2)
    # ONNX Runtime's own way would be to print this and open the session on the CPU
    assert "Falling back" not in "".join(capfd.readouterr())


def test_what_is_printed_below_python_is_caught_without_colours_and_times(capfd):
    moment = b"2026-01-02 03:04:05.678"
    with printed() as said:
        os.write(2, moment + b" [W:onnxruntime:, session.cc:2 Init] Hm\n\n")
        place = b"/a/b/factory.cc:141 std::string a::b(std::shared_ptr<C>, const D&) "
        os.write(
            2, moment + b" [E:onnxruntime:Default, p.cc:1 Get] " + place + b"No GPU: install it\n"
        )
        os.write(2, b"\x1b[1;31m" + moment + b" [E:onnxruntime:Default, p.cc:1 Get] Bad\x1b[m\n")
        print("and Python", file=sys.stderr)
    os.write(2, b"shown again\n")
    # under pytest, Python's sys.stderr is a file of its own
    assert [line for line in said if line != "and Python"] == ["No GPU: install it", "Bad", "Hm"]
    assert capfd.readouterr().err.endswith("shown again\n")


def test_stderr_is_put_back_after_an_error(capfd):
    with pytest.raises(ValueError, match="inside"), printed():
        raise ValueError("inside")
    os.write(2, b"shown\n")
    assert "shown" in capfd.readouterr().err


def test_a_closed_stderr_is_no_error():
    kept = os.dup(2)
    os.close(2)
    try:
        with printed() as said:
            pass
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    assert said == []
