"""Engines that a hook gives, as targets beside ONNX Runtime."""

from __future__ import annotations

import importlib.util

import pytest
from project import Project, mlps

#: onnx's evaluator as an engine; what a test appends makes it another one
CONFTEST = """
class Engine:
    def versions(self):
        return {{"onnx-in-python": "1.0"}}

    def open(self, path, options, threads):
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(str(path))

        def run(inputs):
            outputs = evaluator.run(None, inputs)
            {outputs}
            return outputs

        {opened}
        return run


def pytest_onnxcheck_engines(config):
    return {{"python": Engine()}}
"""

OPENVINO = """
class OpenVINO:
    def versions(self):
        import openvino

        return {"openvino": openvino.__version__}

    def open(self, path, options, threads):
        import openvino

        if threads is not None:
            options = {**options, "INFERENCE_NUM_THREADS": threads}
        compiled = openvino.Core().compile_model(path, "CPU", dict(options))

        def run(inputs):
            found = compiled(inputs)
            return [found[output] for output in compiled.outputs]

        return run


def pytest_onnxcheck_engines(config):
    return {"openvino-own": OpenVINO()}
"""

TARGETS = 'targets = ["cpu", "python"]'

NODE = "net::torchscript-op17-fp32::test_equivalence[python]"


def conftest(project: Project, outputs: str = "", opened: str = "") -> None:
    text = CONFTEST.format(outputs=outputs or "pass", opened=opened or "pass")
    (project.path / "conftest.py").write_text(text)
    project.manifest(mlps("net"), TARGETS)


def test_it_runs_beside_onnx_runtime(project: Project):
    conftest(project)
    assert project.run("-m", "equivalence or target").ret == 0
    outcomes = project.outcomes()
    assert outcomes[NODE] == "passed"
    assert not any("test_target" in name for name in outcomes)  # nothing falls back to the CPU
    (entry,) = (check for check in project.record["checks"] if check["target"] == "python")
    assert entry["environment"] == {"onnx-in-python": "1.0"}
    assert entry["measurement"]["provider"] == "python"


def test_it_computes_something_else(project: Project):
    conftest(project, outputs="outputs = [output * 1.01 for output in outputs]")
    assert project.run("-m", "equivalence").ret == 1
    assert project.outcomes()[NODE] == "failed"
    assert project.outcomes()[NODE.replace("[python]", "[cpu]")] == "passed"


@pytest.mark.parametrize(
    ("outputs", "opened", "reason"),
    [
        ("outputs = []", "", "python gave 0 outputs, and the artefact has 1: mend `open`"),
        ("raise ValueError('no such kernel')", "", "python failed on x [1, 8]: no such kernel"),
        ("", "raise ValueError('no such kernel')", "does not load in python: no such kernel"),
    ],
)
def test_it_fails(project: Project, outputs: str, opened: str, reason: str):
    conftest(project, outputs, opened)
    assert project.run("-m", "equivalence", "--onnxcheck-target=python").ret == 1
    assert reason in project.reason(NODE)


def test_it_is_not_installed(project: Project):
    conftest(project, opened="import engine_that_nobody_has")
    assert project.run("-m", "equivalence", "--onnxcheck-target=python").ret == 0
    assert "No module named 'engine_that_nobody_has'" in project.reason(NODE)
    required = "--onnxcheck-require=python"
    assert project.run("-m", "equivalence", "--onnxcheck-target=python", required).ret == 1


def test_its_options(project: Project):
    conftest(project, opened="raise ValueError(dict(options))")
    project.manifest(mlps("net"), f"{TARGETS}\n[targets.python.provider_options]\nhint = 3\n")
    project.run("-m", "equivalence", "--onnxcheck-target=python")
    assert "{'hint': 3}" in project.reason(NODE)


def test_openvino(project: Project):
    """OpenVINO's own runtime: `tox -e engine`."""
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("needs openvino: tox -e engine")
    (project.path / "conftest.py").write_text(OPENVINO)
    project.manifest(
        mlps("net"),
        'precisions = ["fp32", "fp16"]\ntargets = ["cpu", "openvino-own"]\n'
        '[targets.openvino-own.provider_options]\nINFERENCE_PRECISION_HINT = "f32"\n'
        "[defaults.latency]\nseconds = 0.5\nlongest = 0.5\n",
    )
    assert project.run("--onnxcheck-require=openvino-own").ret == 0
    on_it = {name: found for name, found in project.outcomes().items() if "openvino-own" in name}
    assert set(on_it.values()) == {"passed"}
    assert {name.partition("::test_")[2].partition("[")[0] for name in on_it} == {
        "equivalence",
        "latency",
    }
    for check in project.record["checks"]:
        if check["target"] == "openvino-own":
            assert check["environment"].keys() == {"openvino"}
            if check["check"] == "latency":
                assert check["measurement"]["onnxruntime"]["median"] > 0
