"""The reference evaluator as a target: exact in 16 bits, and only for tiny models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.runtime import evaluator
from pytest_onnxcheck.engine.runtime.session import open_model, open_session
from pytest_onnxcheck.errors import RunError, Unsupported
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS

REFERENCE = BUILTIN_TARGETS["reference"]


def saved(path: Path, graph: str, opset: int = 20) -> Artefact:
    head = f'<ir_version: 9, opset_import: ["" : {opset}, "com.microsoft" : 1]>'
    onnx.save(onnx.parser.parse_model(f"{head} {graph}"), path / "m.onnx")
    return Artefact.given(path / "m.onnx")


def test_it_runs_what_onnx_runtime_has_no_kernels_for(tmp_path: Path):
    artefact = saved(
        tmp_path,
        """g (float[n] x) => (float[n] y) {
            b = Cast <to = 16> (x)
            r = Relu (b)
            y = Cast <to = 1> (r)
        }""",
    )
    session = open_session(artefact, REFERENCE)
    assert (session.target.name, session.provider) == ("reference", "ReferenceEvaluator")
    assert session.inputs == {"x": "tensor(float)"}
    (y,) = session.run({"x": np.array([-1.0, 1.00390625, 3.0], "float32")})
    # bfloat16 has 8 bits: 1 + 1/256 lies between two of its numbers
    assert y.tolist() == [0.0, 1.0, 3.0]


def test_a_model_in_memory_runs_too():
    model = onnx.parser.parse_model(
        '<ir_version: 9, opset_import: ["" : 20]> g (float[2] x) => (float[2] y) { y = Neg (x) }'
    )
    session = open_model(model.SerializeToString(), REFERENCE)
    assert session.run({"x": np.ones(2, "float32")})[0].tolist() == [-1.0, -1.0]


def test_operators_that_onnx_does_not_specify_are_unsupported(tmp_path: Path):
    artefact = saved(tmp_path, "g (float[2] x) => (float[2] y) { y = com.microsoft.QuickGelu (x) }")
    with pytest.raises(Unsupported, match=r"the reference evaluator does not run it: .*QuickGelu"):
        open_session(artefact, REFERENCE)


def test_an_opset_it_has_no_implementation_for_is_unsupported(tmp_path: Path):
    artefact = saved(
        tmp_path,
        "g (int8[2] x, float s) => (float[2] y) { y = DequantizeLinear (x, s) }",
        opset=17,
    )
    with pytest.raises(Unsupported, match=r"the reference evaluator does not run it: .*Dequantize"):
        open_session(artefact, REFERENCE)


@pytest.mark.parametrize(
    ("limit", "most", "text"),
    [
        ("_MAX_NODES", 1, "2 nodes, at most 1 are run"),
        ("_MAX_ELEMENTS", 31, "32 weights, at most 31 are run"),
        ("_MAX_MACS", 63, "64 multiply-accumulates, at most 63 are run"),
    ],
)
def test_a_larger_model_is_refused_before_it_runs(tmp_path: Path, monkeypatch, limit, most, text):
    weights = ", ".join(["1"] * 32)
    artefact = saved(
        tmp_path,
        f"""g (float[2, 8] x) => (float[2, 4] y) <float[8, 4] w = {{{weights}}}> {{
            r = Relu (x)
            y = MatMul (r, w)
        }}""",
    )
    monkeypatch.setattr(evaluator, limit, most)
    # what an earlier test found
    monkeypatch.setattr("pytest_onnxcheck.engine.runtime.session._probed", {})
    with pytest.raises(Unsupported, match=f"for tiny models: {text}. Leave the target reference"):
        open_session(artefact, REFERENCE)


def test_what_is_no_model_is_a_failure():
    with pytest.raises(RunError, match="does not load in the reference evaluator") as caught:
        open_model(b"no model", REFERENCE)
    assert not isinstance(caught.value, Unsupported)
