"""Sessions in another environment: this one's interpreter stands for another's."""

from __future__ import annotations

import gc
import os
import stat
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.runtime import remote, workers
from pytest_onnxcheck.engine.runtime.assignment import assigned
from pytest_onnxcheck.engine.runtime.session import open_model, open_session
from pytest_onnxcheck.engine.speed import memory
from pytest_onnxcheck.engine.speed.timing import interleave
from pytest_onnxcheck.errors import RunError, TargetAbsent
from pytest_onnxcheck.manifest.targets import CPU, Target

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


def there(name: str = "there", python: str = sys.executable, **fields) -> Target:
    return Target(name, fields.pop("provider", CPU.provider), python=python, **fields)


def model(ir: int = 8, operator: str = "Tanh", kind: int = TensorProto.FLOAT) -> bytes:
    x = helper.make_tensor_value_info("x", kind, ["n", 4])
    y = helper.make_tensor_value_info("y", kind, ["n", 4])
    graph = helper.make_graph([helper.make_node(operator, ["x"], ["y"], "node")], "g", [x], [y])
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir).SerializeToString()


def artefact(folder: Path, **how) -> Artefact:
    path = folder / f"{len(list(folder.iterdir()))}.onnx"
    path.write_bytes(model(**how))
    return Artefact.given(path)


def interpreter(folder: Path, text: str) -> str:
    """An executable that stands for an interpreter."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def answering(folder: Path, body: str) -> str:
    """The worker, with other code for its questions."""
    code = folder / "worker.py"
    source = Path(workers.worker.__file__).read_text(encoding="utf-8")
    code.write_text(source.replace('if __name__ == "__main__":', f'{body}\nif __name__ != "x":'))
    return interpreter(folder, f'exec "{sys.executable}" "{code}"')


def test_it_computes_what_is_computed_here_to_the_bit(tmp_path: Path):
    given = artefact(tmp_path)
    here, elsewhere = open_session(given, CPU), open_session(given, there())
    assert (elsewhere.inputs, elsewhere.outputs) == (here.inputs, here.outputs)
    (expected,), (actual,) = here.run({"x": X}), elsewhere.run({"x": X})
    np.testing.assert_array_equal(actual, expected)
    assert elsewhere.provider == "CPUExecutionProvider"
    assert elsewhere.run({"x": X[:0]})[0].shape == (0, 4)
    np.testing.assert_array_equal(open_model(model(), there()).run({"x": X})[0], expected)


def test_texts_and_named_outputs(tmp_path: Path):
    text = open_session(artefact(tmp_path, operator="Identity", kind=TensorProto.STRING), there())
    words = np.array([["a", "bc", "", "größer"]], object)
    (found,) = text.run({"x": words})
    assert found.dtype == object
    assert found.tolist() == words.tolist()
    handle = open_session(artefact(tmp_path), there()).handle
    assert handle.run(["y"], {"x": X})[0].shape == X.shape


def test_versions_are_told_once_it_was_asked(tmp_path: Path):
    target = there(environment=(), kept="nowhere")
    assert remote.packages_of(target) == {}
    open_session(artefact(tmp_path), target)
    assert set(remote.packages_of(target)) == {"python", "numpy", "onnxruntime"}


def test_a_run_that_fails_says_what_onnx_runtime_said(tmp_path: Path):
    session = open_session(artefact(tmp_path), there())
    with pytest.raises(RunError, match=r"failed on x \[2, 3\]: .*Got invalid dimensions"):
        session.run({"x": X[:, :3]})
    assert session.run({"x": X})[0].shape == X.shape


def test_a_worker_that_was_killed_is_replaced_and_its_sessions_open_again(tmp_path: Path):
    session = open_session(artefact(tmp_path), there("killed"))
    process = remote.runtime_of(there("killed")).child.start()
    process.kill()
    process.wait()
    assert session.run({"x": X})[0].shape == X.shape


def test_a_session_that_nobody_has_any_more_is_dropped_there(tmp_path: Path):
    runtime = remote.runtime_of(there())
    session = open_session(artefact(tmp_path), there())
    number = session.handle.number
    del session
    gc.collect()
    open_session(artefact(tmp_path), there())
    with pytest.raises(workers.Refused):
        workers.ask(runtime.child, "assigned", session=number)


def test_a_crash_is_an_error_and_the_next_session_opens(tmp_path: Path):
    crash = "Worker.run = lambda self, session, inputs, outputs: os.abort()"
    session = open_session(artefact(tmp_path), there("crashing", answering(tmp_path, crash)))
    for _ in range(2):
        with pytest.raises(RunError, match=r"failed on x \[2, 4\]: ONNX Runtime crashed \(SIGABRT"):
            session.run({"x": X})


def test_a_crash_while_it_is_opened_says_what_may_avoid_it(tmp_path: Path):
    crash = "Worker.open = lambda self, path, opening: os.abort()"
    target = there("unopened", answering(tmp_path, crash))
    for _ in range(2):
        with pytest.raises(
            RunError, match=r"crashed \(SIGABRT\) while it opened .* another exporter"
        ):
            open_session(artefact(tmp_path), target)


def test_a_worker_that_hangs_is_ended(tmp_path: Path, monkeypatch):
    hang = "Worker.run = lambda self, session, inputs, outputs: time.sleep(600)"
    session = open_session(artefact(tmp_path), there("hanging", answering(tmp_path, hang)))
    process = session.handle._process
    asked = workers.ask
    monkeypatch.setattr(workers, "ask", lambda *args, **how: asked(*args, **how, timeout=0.5))
    with pytest.raises(RunError, match=r"ONNX Runtime did not answer within 0.5 s"):
        session.run({"x": X})
    assert process.wait(5) is not None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("echo garbage; exec cat", r"crashed \(it wrote what is no message\)"),
        ("exec cat", r"crashed \(it wrote what is no answer\)"),
        ("echo null; exec cat", r"crashed \(it wrote what is no answer\)"),
        ("""echo '{"value": 3}'; exec cat""", "not subscriptable"),
        ("echo 'no such module' >&2; exit 3", r"crashed \(exit status 3\): no such module"),
    ],
)
def test_garbage_on_the_pipe_is_an_error(tmp_path: Path, text: str, told: str):
    target = there("garbage", interpreter(tmp_path, text))
    for _ in range(2):
        with pytest.raises(RunError, match=f"does not answer as a Python .*{told}.* Name another"):
            open_session(artefact(tmp_path), target)


def test_an_interpreter_without_onnxruntime_is_told_how_to_get_it(tmp_path: Path):
    target = there("bare", interpreter(tmp_path, f'exec "{sys.executable}" -S -I "$@"'))
    with pytest.raises(
        RunError, match=r"bare: .* cannot import onnxruntime \(ModuleNotFoundError: No module named"
    ) as raised:
        open_session(artefact(tmp_path), target)
    assert str(raised.value).endswith("python -m pip install onnxruntime")
    assert not isinstance(raised.value, TargetAbsent)


@pytest.mark.parametrize("python", ["no-such-python", "/no/such/python", __file__])
def test_an_interpreter_that_is_not_there_is_absent(tmp_path: Path, python: str):
    with pytest.raises(TargetAbsent, match=r"gone: there is no interpreter .*\[targets.gone\]"):
        open_session(artefact(tmp_path), there("gone", python))


def test_a_provider_that_is_missing_there_is_absent_and_an_unknown_one_an_error(tmp_path: Path):
    given = artefact(tmp_path)
    with pytest.raises(TargetAbsent, match=r"npu: QNNExecutionProvider is not in that onnxruntime"):
        open_session(given, there("npu", provider="QNNExecutionProvider"))
    with pytest.raises(RunError, match=r"knows no provider 'QQQ'.*mend \[targets.npu\] provider"):
        open_session(given, there("npu", provider="QQQ"))


def test_an_artefact_of_a_later_ir_version_does_not_load(tmp_path: Path):
    with pytest.raises(
        RunError, match=r"does not load in onnxruntime [\d.]+ \(there\): .*\. Write the fil"
    ):
        open_session(artefact(tmp_path, ir=99), there())


def test_this_interpreters_own_settings_do_not_reach_another(tmp_path: Path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise ImportError('not this one')")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    assert remote.runtime_of(there("same", sys.executable)).packages["numpy"] == np.__version__


def test_calls_there_take_turns_with_one_here(tmp_path: Path):
    given = artefact(tmp_path)
    one, other = open_session(given, there()), open_session(given, there())
    turns = one.handle.turns([other.handle], [{"x": X}, {"x": X}])
    rounds = interleave([lambda: None], [0.05], elsewhere=turns)
    turns.rest()
    assert rounds.sides == 4
    assert len(rounds) >= 11  # 21, but on a machine that is slow
    assert all(time > 0 for row in rounds.wall + rounds.thread + rounds.process for time in row)
    kernel, own = rounds.samples(3), rounds.samples(1)
    assert sorted(kernel)[len(kernel) // 2] > sorted(own)[len(own) // 2]


def test_timing_that_crashes_there_is_an_error(tmp_path: Path):
    crash = "Worker.take_round = lambda self, order, untimed: os.abort()"
    session = open_session(artefact(tmp_path), there("round", answering(tmp_path, crash)))
    turns = session.handle.turns([], [{"x": X}])
    with pytest.raises(RuntimeError, match="ONNX Runtime crashed"):
        interleave([lambda: None], [0.01], elsewhere=turns)
    turns.rest()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's own counts")
def test_memory_is_measured_there(tmp_path: Path):
    path = tmp_path / "large.onnx"
    weight = onnx.numpy_helper.from_array(np.ones((4, 2_000_000), np.float32), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2_000_000])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y])
    graph.initializer.append(weight)
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    given = Artefact.given(path)
    session = open_session(given, there())
    assert memory.peak(given, session, 1, {"x": X}) > 32_000_000


@pytest.mark.parametrize("says", [True, False])
def test_who_runs_which_node_is_told_there(tmp_path: Path, says: bool):
    """Before 1.24, which does not say, by a profile."""
    mute = "" if says else "Worker.assigned = lambda self, session: None"
    given, python = artefact(tmp_path), answering(tmp_path, mute)
    session = open_session(given, there("azure", python, provider="AzureExecutionProvider"))
    session.run({"x": X})
    found = assigned(session, given, {"x": X})
    assert found.nodes == {"CPUExecutionProvider": 1}
    assert [node.operator for node in found.fallen] == ["Tanh"]
