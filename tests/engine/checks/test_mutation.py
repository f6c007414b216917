"""What the injection of faults asks of an artefact; tests/test_mutation_gate.py has the rest."""

from types import SimpleNamespace

import pytest
from onnx import TensorProto, helper, save

from pytest_onnxcheck.engine.artefacts import writing
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.checks import mutation
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.manifest.targets import CPU


def test_an_artefact_too_large_for_memory_is_refused_with_what_to_write(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    node = helper.make_node("Relu", ["x"], ["y"])
    save(helper.make_model(helper.make_graph([node], "net", values[:1], values[1:])), path)
    monkeypatch.setattr(writing, "MAX_INLINE_BYTES", path.stat().st_size - 1)
    oracle = SimpleNamespace(reference=SimpleNamespace(model=SimpleNamespace(name="net")))
    with pytest.raises(RunError) as caught:
        mutation.measure(Artefact.given(path), oracle, None, CPU, 3, None)
    assert str(caught.value).startswith(f"{path}: faults are put into a model in memory, of up to")
    assert 'skip = [{ reason = "too large", checks = ["mutation"] }]' in str(caught.value)
