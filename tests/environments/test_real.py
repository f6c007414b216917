"""Real releases of onnxruntime in environments of their own: `tox run -e environments`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper
from project import Project, mlps

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.graph.runtimes import lowest_release
from pytest_onnxcheck.engine.runtime import remote
from pytest_onnxcheck.engine.runtime.assignment import assigned
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.errors import RunError, TargetAbsent
from pytest_onnxcheck.manifest.targets import CPU, Target

if os.environ.get("ONNXCHECK_ENVIRONMENTS") != "required":
    pytest.skip("downloads onnxruntime: python -m tox run -e environments", allow_module_level=True)

from conformance.environments import TARGETS

KEPT = str(Path(os.environ.get("ONNXCHECK_ENVIRONMENTS_FOLDER", ".tox/kept")).absolute())
X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 4)


def there(name: str, provider: str = CPU.provider, **packages: list[str]) -> Target:
    wanted = packages.get("environment") or TARGETS[name]["environment"]
    return Target(name, provider, environment=tuple(wanted), kept=KEPT)


def artefact(folder: Path, *, ir: int = 9, opset: int = 20, operator: str = "MatMul") -> Artefact:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])
    w = helper.make_tensor("w", TensorProto.FLOAT, [4, 4], np.eye(4).flatten())
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])
    inputs = ["x", "w"] if operator == "MatMul" else ["x"]
    domain = "" if operator == "MatMul" else "com.microsoft"
    node = helper.make_node(operator, inputs, ["y"], "node", domain=domain)
    graph = helper.make_graph([node], "g", [x], [y], [w] if operator == "MatMul" else [])
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)],
        ir_version=ir,
    )
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return Artefact.given(path)


def test_an_old_release_runs_what_it_can(tmp_path: Path):
    session = open_session(artefact(tmp_path), there("ort-1.20"))
    np.testing.assert_array_equal(session.run({"x": X})[0], X)
    assert remote.packages_of(there("ort-1.20"))["onnxruntime"] == "1.20.1"


def test_a_release_for_numpy_1_gets_numpy_1(tmp_path: Path):
    target = there("old", environment=["onnxruntime==1.17.0"])
    session = open_session(artefact(tmp_path), target)
    np.testing.assert_array_equal(session.run({"x": X})[0], X)
    assert remote.packages_of(target)["numpy"].startswith("1.")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (
            {"ir": 11},
            "Unsupported model IR version: 11, max supported IR version: 10. Write the file with "
            "IR version 10 (onnx: model.ir_version), or leave the target out for this model",
        ),
        (
            {"opset": 24, "ir": 10},
            "support for domain ai.onnx is till opset 21. Export it with opsets = [21] or lower, "
            "or leave the target out for this model",
        ),
        ({"operator": "ScaledSiLU"}, "com.microsoft:ScaledSiLU(-1) is not a registered function"),
    ],
)
def test_what_is_too_new_for_it_fails_with_its_words(tmp_path: Path, how: dict, told: str):
    where = r"does not load in onnxruntime 1\.20\.1 \(ort-1\.20\): "
    with pytest.raises(RunError, match=where) as raised:
        open_session(artefact(tmp_path, **how), there("ort-1.20"))
    assert told in str(raised.value)
    assert open_session(artefact(tmp_path, **how), CPU).outputs == ["y"]


def test_a_provider_that_it_lacks_is_absent(tmp_path: Path):
    target = there("ort-1.20", "OpenVINOExecutionProvider")
    with pytest.raises(TargetAbsent, match=r"OpenVINOExecutionProvider is not in that onnxruntime"):
        open_session(artefact(tmp_path), target)


def test_another_build_runs_its_own_provider_beside_this_one(tmp_path: Path):
    given = artefact(tmp_path)
    session = open_session(given, there("openvino", "OpenVINOExecutionProvider"))
    np.testing.assert_allclose(session.run({"x": X})[0], open_session(given, CPU).run({"x": X})[0])
    found = assigned(session, given, {"x": X})
    assert found.nodes == {"OpenVINOExecutionProvider": 1}


def test_who_ran_which_node_is_told_by_an_old_release_too(tmp_path: Path):
    given = artefact(tmp_path)
    session = open_session(given, there("ort-1.20", "AzureExecutionProvider"))
    session.run({"x": X})
    found = assigned(session, given, {"x": X})
    assert found.nodes == {"CPUExecutionProvider": 1}
    assert [(node.operator, node.name) for node in found.fallen] == [("MatMul", "node")]


def test_a_package_that_there_is_not_fails():
    with pytest.raises(RunError, match=r"the environment of onnxruntime==0\.0\.1 cannot be made"):
        remote.runtime_of(there("none", environment=["onnxruntime==0.0.1"]))


def test_the_oldest_runtime_that_a_manifest_names_is_run(project: Project):
    project.manifest(f'{mlps("net")}deploy.onnxruntime = ">=1.17"\n')
    assert project.run("-k", "equivalence", f"--onnxcheck-cache={Path(KEPT).parent}").ret == 0
    found = {one["target"]: one["environment"] for one in project.record["checks"]}
    assert found["cpu"] == {}
    wanted = lowest_release("1.17")
    assert found["onnxruntime-1.17"]["onnxruntime"] == wanted


def test_a_file_that_is_too_new_for_it_fails_there(project: Project):
    project.give_relu(ir_version=11, opset=20, onnxruntime=">=1.17")
    assert project.run("-k", "equivalence", f"--onnxcheck-cache={Path(KEPT).parent}").ret == 1
    assert project.outcomes() == {
        "net::file-fp32::test_equivalence[cpu]": "passed",
        "net::file-fp32::test_equivalence[onnxruntime-1.17]": "failed",
    }
    assert "Unsupported model IR version: 11, max supported IR version: " in project.reason(
        "net::file-fp32::test_equivalence[onnxruntime-1.17]"
    )
