"""Sessions: crashes and fallbacks are errors of the check, not of the test process."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from small_models import save
from torch import nn

from pytest_onnxcheck.engine.artefacts.artefact import Artefact, Notes
from pytest_onnxcheck.engine.runtime import workers
from pytest_onnxcheck.engine.runtime.session import Session, open_session, sandbox, torch_device
from pytest_onnxcheck.errors import RunError, TargetAbsent, Unsupported
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS, CPU, Target
from pytest_onnxcheck.processes import Child


def linear(path: Path) -> Artefact:
    torch.onnx.export(
        nn.Linear(4, 2).eval(),
        (torch.zeros(2, 4),),
        str(path),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "batch"}},
    )
    return Artefact.given(path)


def test_a_session_runs_on_the_provider_asked_for(tmp_path: Path):
    session = open_session(linear(tmp_path / "m.onnx"), CPU)
    (output,) = session.run({"x": torch.zeros(3, 4).numpy()})
    assert output.shape == (3, 2)
    assert session.provider == "CPUExecutionProvider"


def test_a_target_this_onnxruntime_lacks_is_absent(tmp_path: Path):
    target = Target("npu", "QNNExecutionProvider")
    with pytest.raises(TargetAbsent, match="npu: QNNExecutionProvider is not in this"):
        open_session(linear(tmp_path / "m.onnx"), target)


def test_a_target_without_its_device_is_absent():
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(TargetAbsent, match=r"cuda: torch .* sees no CUDA device"):
        torch_device(BUILTIN_TARGETS["cuda"])


def test_a_provider_that_falls_back_is_an_error(tmp_path: Path):
    # The real library falls back from CUDA to CPU only where CUDA is half installed; a session
    # that runs on another provider than the one expected is the same to the check.
    artefact = linear(tmp_path / "m.onnx")
    handle = onnxruntime.InferenceSession(str(artefact.path), providers=["CPUExecutionProvider"])
    session = Session(BUILTIN_TARGETS["cuda"], {"x": "tensor(float)"}, ["y"], handle)
    with pytest.raises(RunError, match="fell back to CPUExecutionProvider while running"):
        session.run({"x": torch.zeros(3, 4).numpy()})


def test_wrong_inputs_are_an_error_that_names_them(tmp_path: Path):
    session = open_session(linear(tmp_path / "m.onnx"), CPU)
    with pytest.raises(RunError, match=r"needs inputs \['x'\], which the manifest lacks"):
        session.run({})
    with pytest.raises(RunError, match=r"ONNX Runtime failed on x \[3, 5\]"):
        session.run({"x": torch.zeros(3, 5).numpy()})


PRINTING = """
import json, os
real = json.loads

def loads(text):
    os.write(1, b"noise\\n")
    return real(text)

json.loads = loads
"""

#: stands in front of the real package, and prints when it is loaded
PRINTING_ORT = """
import os
os.write(1, b"loaded\\n")
__path__ = [{folder!r}]
exec(compile(open({folder!r} + "/__init__.py").read(), __file__, "exec"))
"""


def test_what_libraries_print_is_no_answer_of_the_child(tmp_path: Path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(PRINTING)
    (tmp_path / "onnxruntime").mkdir()
    folder = str(Path(onnxruntime.__file__).parent)
    (tmp_path / "onnxruntime" / "__init__.py").write_text(PRINTING_ORT.format(folder=folder))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = workers.child()
    try:
        for _ in range(2):
            asked = {"path": str(linear(tmp_path / "m.onnx").path), "opening": CPU.opening()}
            assert workers.ask(child, "load", **asked) is None
    finally:
        child.close()


def test_threads_that_the_options_do_not_allow_are_an_error(tmp_path: Path):
    # the child opens it with the target's own number of threads, which fits
    options = {"intra_op_num_threads": 2, "session.intra_op_thread_affinities": "1"}
    target = Target("pinned", CPU.provider, {}, options)
    with pytest.raises(RunError, match=r"does not load in ONNX Runtime: .*affinit"):
        open_session(linear(tmp_path / "m.onnx"), target, threads=3)


def test_a_session_has_the_threads_it_is_opened_with(tmp_path: Path):
    artefact = linear(tmp_path / "m.onnx")
    options = open_session(artefact, CPU, threads=2).handle.get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)


def test_a_torch_device_that_does_not_exist_is_named():
    wrong = Target("gpu", "CUDAExecutionProvider", device="gpu")
    with pytest.raises(
        RunError, match=r"\[targets.gpu\] torch_device 'gpu': Expected one of cpu, cuda"
    ):
        torch_device(wrong)


def test_a_file_that_does_not_load_is_an_error(tmp_path: Path):
    artefact = linear(tmp_path / "m.onnx")
    model = onnx.load(artefact.path)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "broken.onnx")
    with pytest.raises(RunError, match=r"broken.onnx: does not load in ONNX Runtime: .*NoSuchOp"):
        open_session(Artefact.given(tmp_path / "broken.onnx"), CPU)


def one_node(path: Path, operator: str, read: int, given: int, **attributes: int) -> Artefact:
    """A model of one node on a vector, with these types."""
    kinds = [
        onnx.helper.make_tensor_value_info(name, kind, ["n"])
        for name, kind in (("x", read), ("y", given))
    ]
    node = onnx.helper.make_node(operator, ["x"], ["y"], **attributes)
    graph = onnx.helper.make_graph([node], "g", [kinds[0]], [kinds[1]])
    opset = onnx.helper.make_opsetid("", 20)
    onnx.save(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return Artefact.given(path, "bf16")


SAID = "Could not find an implementation for "


def test_bfloat16_without_kernels_is_unsupported_and_other_types_are_a_failure(tmp_path: Path):
    bfloat16, int64 = onnx.TensorProto.BFLOAT16, onnx.TensorProto.INT64
    with pytest.raises(Unsupported, match=f"^bf16 does not load on CPUExecutionProvider: {SAID}"):
        open_session(one_node(tmp_path / "b.onnx", "Relu", bfloat16, bfloat16), CPU)
    with pytest.raises(RunError, match=SAID) as caught:
        open_session(one_node(tmp_path / "i.onnx", "Relu", int64, int64), CPU)
    assert not isinstance(caught.value, Unsupported)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-dynamic"])
def test_bfloat16_that_nobody_asked_for_is_a_failure(tmp_path: Path, precision: str):
    bfloat16 = onnx.TensorProto.BFLOAT16
    wide = one_node(tmp_path / "m.onnx", "Relu", bfloat16, bfloat16)
    with pytest.raises(Unsupported):  # the same file, as what it is
        open_session(wide, CPU)
    with pytest.raises(RunError) as caught:
        open_session(Artefact.given(wide.path, precision), CPU)
    assert not isinstance(caught.value, Unsupported)
    text = str(caught.value)
    assert text.startswith(
        f"{wide.path}: does not load on CPUExecutionProvider, which lacks kernels for bfloat16: "
        f"{SAID}Relu"
    )
    assert text.endswith(
        f". The manifest asks for {precision}, and bfloat16 is in node 'y' (Relu). Keep them in "
        "float32 (no .bfloat16(), .to(torch.bfloat16) or autocast in the model), or ask for "
        "precision bf16"
    )


def test_bfloat16_that_the_opset_does_not_have_is_told_alike(tmp_path: Path):
    """As a Conv before opset 22, which makes the file invalid."""
    bfloat16 = onnx.TensorProto.BFLOAT16
    wide = one_node(tmp_path / "m.onnx", "GlobalAveragePool", bfloat16, bfloat16)
    with pytest.raises(RunError) as caught:
        open_session(Artefact.given(wide.path, "fp32"), CPU)
    assert not isinstance(caught.value, Unsupported)
    text = str(caught.value)
    assert (
        "which lacks kernels for bfloat16: Type 'tensor(bfloat16)' of input parameter (x)" in text
    )
    assert "is invalid. The manifest asks for fp32, and bfloat16 is in node 'y' (Gl" in text
    assert "(GlobalAveragePool). Keep them in float32" in text


def test_another_type_without_kernels_fails_although_there_is_bfloat16_elsewhere(tmp_path: Path):
    text = """(bfloat16[n] x, int64[n] i) => (float[n] y, int64[n] j) {
        [cast] y = Cast <to = 1> (x)
        [other] j = Relu (i)
    }"""
    artefact = Artefact.given(save(tmp_path / "m.onnx", text), "bf16")
    with pytest.raises(
        RunError, match=f"m.onnx: does not load in ONNX Runtime: .*{SAID}"
    ) as caught:
        open_session(artefact, CPU)
    assert not isinstance(caught.value, Unsupported)


def test_bfloat16_at_the_boundary_is_an_error_that_says_what_to_do(tmp_path: Path):
    kinds = onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT
    artefact = one_node(tmp_path / "m.onnx", "Cast", *kinds, to=onnx.TensorProto.FLOAT)
    with pytest.raises(RunError, match=r"^x: bfloat16, .* \(keep_io_types = true\)"):
        open_session(artefact, CPU)


def test_only_what_the_variant_narrows_is_cast_and_only_from_float32(tmp_path: Path):
    kinds = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT16
    artefact = one_node(tmp_path / "m.onnx", "Identity", *kinds)
    x = torch.tensor([1.0, 1e6]).numpy()
    with pytest.raises(RunError, match="Unexpected input data type"):
        open_session(artefact, CPU).run({"x": x})
    narrowed = dataclasses.replace(artefact, notes=Notes(narrowed=("x", "y")))
    (found,) = open_session(narrowed, CPU).run({"x": x})
    assert (found.dtype.name, found.tolist()) == ("float32", [1.0, float("inf")])
    with pytest.raises(RunError, match="Unexpected input data type"):
        open_session(narrowed, CPU).run({"x": x.astype("float64")})


def test_a_child_killed_between_two_questions_is_replaced(tmp_path: Path):
    process = sandbox._child.start()
    process.kill()
    process.wait()
    artefact = linear(tmp_path / "m.onnx")
    assert sandbox.load_problem(artefact.path, CPU.opening()) is None


def test_a_provider_that_hangs_is_an_error_that_says_how_long_and_what_to_do(
    tmp_path: Path, monkeypatch
):
    child = Child("-c", "import sys, time; sys.stdin.readline(); time.sleep(600)")
    monkeypatch.setattr(sandbox, "_child", child)
    problem = sandbox.load_problem(tmp_path / "m.onnx", CPU.opening(), timeout=0.5)
    assert problem.startswith(
        "ONNX Runtime did not answer within 0.5 s while it opened a session on this artefact, and "
        "was ended. The provider or its driver may hang: "
    )
    assert "provider or session options" in problem


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


def test_a_crash_of_the_runtime_is_an_error_and_the_next_artefact_is_checked(tmp_path: Path):
    torch.manual_seed(0)
    torch.onnx.export(
        SelfAttention().eval(),
        (torch.zeros(2, 4, 16),),
        str(tmp_path / "fp32.onnx"),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        opset_version=17,
        dynamic_axes={"x": {0: "batch", 1: "time"}},
    )
    converted = convert_float_to_float16(onnx.load(tmp_path / "fp32.onnx"), keep_io_types=True)
    onnx.save(converted, tmp_path / "fp16.onnx")
    crashing = Artefact.given(tmp_path / "fp16.onnx")
    problem = sandbox.load_problem(crashing.path, CPU.opening())
    if problem is None:
        pytest.skip(f"onnxruntime {onnxruntime.__version__} no longer crashes on this file")
    assert problem.startswith("ONNX Runtime crashed (SIG")
    with pytest.raises(RunError, match="ONNX Runtime crashed"):
        open_session(crashing, CPU)
    assert open_session(Artefact.given(tmp_path / "fp32.onnx"), CPU).outputs == ["y"]
