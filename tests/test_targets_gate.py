"""Targets through the whole gate: absent, fallen back, idle, and running."""

from __future__ import annotations

import subprocess
import sys

import pytest
from project import MLP, Project, drifting, mlps

#: the provider is part of every onnxruntime, and takes no node of these models
AZURE = '[targets.azure]\nprovider = "AzureExecutionProvider"\n'
NPU = '[targets.npu]\nprovider = "QNNExecutionProvider"\n'
CHECKS = "target or equivalence"


def of(project: Project, name: str = "net", variant: str = "torchscript-op17-fp32"):
    start = f"{name}::{variant}::test_"
    return {
        nodeid.removeprefix(start): outcome
        for nodeid, outcome in project.outcomes().items()
        if nodeid.startswith(start)
    }


def reason(project: Project, check: str) -> str:
    return project.reason(f"net::torchscript-op17-fp32::test_{check}")


def test_an_accelerator_that_leaves_every_node_to_the_cpu_fails(project: Project):
    project.manifest(AZURE + mlps("net"), 'targets = ["cpu", "azure"]')
    assert project.run("-k", CHECKS).ret == 1
    # the outputs are right, and only this check sees that another provider made them
    assert of(project) == {
        "target[azure]": "failed",
        "equivalence[cpu]": "passed",
        "equivalence[azure]": "passed",
    }
    assert reason(project, "target[azure]") == (
        "nodes: AzureExecutionProvider runs none of 3: 3 on CPUExecutionProvider. Mend its options "
        "([targets.azure]), or leave the target out for this model"
    )
    (found,) = [entry for entry in project.record["checks"] if entry["check"] == "target"]
    assert found["measurement"]["compute"] == 1.0
    assert [node["operator"] for node in found["measurement"]["fallen"]] == ["Gemm", "Relu", "Gemm"]


def test_what_was_timed_elsewhere_fails_by_itself(project: Project):
    """`-m latency` alone must not pass by the speed of the CPU."""
    project.on_clock()
    project.manifest(
        AZURE + mlps("net"), 'targets = ["azure"]\nlatency = { seconds = 0.1, longest = 0.1 }'
    )
    assert project.run("-m", "latency").ret == 1
    reasons = {check["reason"].partition(".")[0] for check in project.record["checks"]}
    assert reasons == {"nodes: AzureExecutionProvider runs none of 3: 3 on CPUExecutionProvider"}
    for check in project.record["checks"]:
        assert check["measurement"]["assignment"]["nodes"] == {"CPUExecutionProvider": 3}
        assert check["measurement"]["device"] == "AzureExecutionProvider"


def test_cpu_only_users_have_no_such_check(project: Project):
    project.manifest(mlps("net"), 'targets = ["cpu"]')
    result = project.pytest("--onnxcheck", "--collect-only", "-q")
    assert result.ret == 0
    assert any("test_latency[cpu-batch1]" in line for line in result.outlines)
    assert not any("test_target" in line for line in result.outlines)


@pytest.mark.parametrize("option", [False, True])
def test_an_absent_target_skips_and_fails_where_it_is_required(project: Project, option: bool):
    project.manifest(NPU + mlps("net"), 'targets = ["cpu", "npu"]')
    options = ["--onnxcheck-require=npu"] if option else []
    assert project.run("-k", CHECKS, *options).ret == int(option)
    outcome = "failed" if option else "skipped"
    assert of(project)["target[npu]"] == of(project)["equivalence[npu]"] == outcome
    assert of(project)["equivalence[cpu]"] == "passed"
    told = reason(project, "target[npu]")
    assert told.startswith("npu: QNNExecutionProvider is not in this onnxruntime")
    assert told.endswith("--onnxcheck-require=npu requires this target.") is option


def test_a_provider_that_does_not_exist_fails_rather_than_skips(project: Project):
    project.manifest(NPU.replace("QNN", "QMM") + mlps("net"), 'targets = ["npu"]')
    assert project.run("-k", "test_target").ret == 1
    told = reason(project, "target[npu]")
    assert "knows no provider 'QMMExecutionProvider' (did you mean 'QNNExecutionProvider'?)" in told
    assert told.endswith("mend [targets.npu] provider")


def test_options_reach_the_session_and_their_error_is_told_once(project: Project):
    wrong = '[targets.cpu.session_options]\n"session.intra_op_thread_affinities" = "first"\n'
    threads = "intra_op_num_threads = 2\n"
    project.manifest(wrong + threads + mlps("net"))
    assert project.run("-k", "equivalence or latency").ret == 1
    assert "Processor id must consist of only digits: first" in reason(project, "equivalence[cpu]")
    assert of(project)["equivalence[cpu]"] == "failed"
    assert of(project)["latency[cpu-batch1]"] == "skipped"


def test_the_reference_evaluator_checks_bfloat16_and_is_not_timed(project: Project):
    text = MLP.format(name="net").replace("dims", 'precisions = ["fp32", "bf16"]\ndims')
    project.manifest(text, 'targets = ["cpu", "reference"]')
    assert project.run("-k", "equivalence or latency and bf16").ret == 0
    assert of(project, variant="torchscript-op17-bf16") == {
        "equivalence[cpu]": "skipped",
        "equivalence[reference]": "passed",
        "latency[cpu-batch1]": "skipped",
        "latency[cpu-batch3]": "skipped",
        "latency[reference-batch1]": "skipped",
        "latency[reference-batch3]": "skipped",
    }
    told = project.reason("net::torchscript-op17-bf16::test_latency[reference-batch1]")
    assert told == "the reference evaluator is the specification in Python: its speed says nothing"


def test_a_repro_folder_opens_the_session_as_the_target_did(project: Project):
    options = '[targets.azure.session_options]\ngraph_optimization_level = "disable"\n'
    project.manifest(AZURE + options + drifting("net"), 'targets = ["azure"]')
    assert project.run("-k", "equivalence").ret == 1
    (folder,) = (project.path / ".onnxcheck" / "repro" / "net").iterdir()
    about = (folder / "repro.json").read_text()
    assert '"provider": "AzureExecutionProvider"' in about
    assert '"graph_optimization_level": "disable"' in about
    command = [sys.executable, str(folder / "repro.py")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert "model.onnx on AzureExecutionProvider" in ran.stdout
    assert ran.stdout.endswith("they differ\n")
