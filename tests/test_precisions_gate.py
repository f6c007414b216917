"""Precisions through the gate: 16-bit inputs and outputs, bf16 on the CPU, int4, and red ones."""

from __future__ import annotations

import json
import subprocess
import sys

import onnx
import torch
from onnxruntime.transformers.float16 import convert_float_to_float16
from project import MLP, Project, mlps

NAME = "net::torchscript-op17-{}::test_{}"


def save_fp32(project: Project, name: str) -> None:
    """Writes an fp32 artefact of the mlp as a release script would."""
    sys.path.insert(0, str(project.path))
    try:
        import nets

        torch.manual_seed(0)
        module = nets.mlp()
    finally:
        sys.path.remove(str(project.path))
        del sys.modules["nets"]
    torch.save(module.state_dict(), project.path / "net.pt")
    torch.onnx.export(
        module,
        (torch.zeros(2, 8),),
        str(project.path / name),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        opset_version=17,
        dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
    )


def test_every_precision_passes_and_bf16_is_skipped_in_onnx_runtimes_words(project: Project):
    project.manifest(
        mlps("net"),
        'precisions = ["fp32", "fp16", "bf16", "half", "int8-dynamic", "int8-static", '
        '"int4-weight"]',
    )
    # bf16 is missing for want of kernels, not of the target
    result = project.run("-m", "not latency", "--onnxcheck-require=cpu")
    assert result.ret == 0
    outcomes = project.outcomes()
    skipped = {nodeid for nodeid, outcome in outcomes.items() if outcome != "passed"}
    assert skipped == {NAME.format("bf16", "equivalence[cpu]")}
    assert outcomes[NAME.format("bf16", "quantization")] == "passed"
    reason = project.reason(*skipped)
    assert reason.startswith(
        "bf16 does not load on CPUExecutionProvider: Could not find an implementation for "
    )
    losses = {
        check["variant"].rpartition("op17-")[2]: check["measurement"]["cases"][0]["outputs"][0]
        for check in project.record["checks"]
        if check["check"] == "equivalence" and check["outcome"] == "passed"
    }
    # each loses something, in this order: each is really another artefact
    order = ["fp32", "half", "int8-static", "int4-weight"]
    rel_rms = [losses[precision]["rel_rms"] for precision in order]
    assert rel_rms == sorted(rel_rms)
    assert len(set(rel_rms)) == 4


ONE_BF16_LAYER = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 4)
        self.middle = nn.Linear(16, 16).bfloat16()

    def forward(self, x):
        return self.last(self.middle(self.first(x).bfloat16()).float())


def mlp():
    return Net().eval()
"""


def test_a_model_with_one_bf16_layer_fails_in_fp32_and_skips_where_bf16_is_asked(project: Project):
    (project.path / "nets.py").write_text(ONE_BF16_LAYER)
    project.manifest(mlps("net"), 'precisions = ["fp32", "fp16", "bf16"]')
    assert project.run("-m", "not latency").ret == 1
    outcomes = project.outcomes()
    for precision, outcome in {"fp32": "failed", "fp16": "failed", "bf16": "skipped"}.items():
        assert outcomes[NAME.format(precision, "equivalence[cpu]")] == outcome
    reason = project.reason(NAME.format("fp32", "equivalence[cpu]"))
    assert "which lacks kernels for bfloat16: Could not find an implementation for Gemm" in reason
    assert (
        "The manifest asks for fp32, and bfloat16 is in node '/middle/Gemm' (Gemm, weights "
        "middle.weight, middle.bias). Keep them in float32 (no .bfloat16(), " in reason
    )


def test_bf16_is_skipped_where_it_is_timed_too(project: Project):
    project.manifest(mlps("net"), 'precisions = ["bf16"]\nlatency = { seconds = 0.1 }')
    project.run("-k", "latency")
    reasons = [check["reason"] for check in project.record["checks"]]
    assert len(reasons) == 2
    assert all(r.startswith("bf16 does not load on CPUExecutionProvider: ") for r in reasons)


def test_16_bit_inputs_and_outputs_are_declared_by_the_variant_and_pass(project: Project):
    text = mlps("net") + "quantization.fp16.keep_io_types = false\nlatency = { seconds = 0.1 }\n"
    project.manifest(text, 'precisions = ["fp16", "half"]')
    result = project.run()
    assert result.ret == 0
    assert set(project.outcomes().values()) == {"passed"}
    for check in project.record["checks"]:
        if check["check"] == "structure":
            measured = check["measurement"]
            for kind in ("inputs", "outputs", "expected_inputs", "expected_outputs"):
                assert [spec["dtype"] for spec in measured[kind]] == ["float16"]
        if check["check"] == "equivalence":
            for case in check["measurement"]["cases"]:
                for output in case["outputs"]:
                    assert (output["expected_dtype"], output["actual_dtype"]) == ("float32",) * 2


def test_a_given_file_with_16_bit_inputs_fails_where_float32_is_declared(project: Project):
    save_fp32(project, "fp32.onnx")
    converted = convert_float_to_float16(onnx.load(project.path / "fp32.onnx"))
    onnx.save(converted, project.path / "fp16.onnx")
    given = MLP.format(name="net") + 'checkpoint = "net.pt"\nonnx = { fp16 = "fp16.onnx" }\n'
    project.manifest(given)
    assert project.run("-m", "not latency").ret == 1
    assert "dtype is float16, declared float32" in project.reason("net::file-fp16::test_structure")
    reason = project.reason("net::file-fp16::test_equivalence[cpu]")
    assert "Unexpected input data type" in reason


def test_a_given_bf16_file_that_is_no_bfloat16_is_no_reason_to_skip(project: Project):
    save_fp32(project, "fp32.onnx")
    model = onnx.load(project.path / "fp32.onnx")
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, project.path / "broken.onnx")
    given = MLP.format(name="net") + 'checkpoint = "net.pt"\nonnx = { bf16 = "broken.onnx" }\n'
    project.manifest(given)
    assert project.run("-k", "equivalence").ret == 1
    assert project.outcomes()["net::file-bf16::test_equivalence[cpu]"] == "failed"
    assert "does not load in ONNX Runtime" in project.reason(
        "net::file-bf16::test_equivalence[cpu]"
    )


SCALED = """
import torch
from torch import nn


class Outlier(nn.Module):
    "One weight is 1,000 times the others; Relu cuts off what its channel gives."

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 4)
        with torch.no_grad():
            self.up.weight[0, 0] = 300.0
            self.up.bias[0] = -3000.0

    def forward(self, x):
        return self.down(torch.relu(self.up(x)))


class Large(nn.Module):
    "Between its layers, values leave float16's range."

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 4)
        with torch.no_grad():
            self.up.weight.fill_(1000.0)

    def forward(self, x):
        return self.down(torch.square(self.up(x)) * 1e-6)
"""


def test_an_outlier_weight_fails_with_one_scale_for_all_and_passes_with_one_a_channel(
    project: Project,
):
    (project.path / "scaled.py").write_text(SCALED)

    def outcome(per_channel: str) -> str:
        text = mlps("net").replace("nets.py:mlp", "scaled.py:Outlier")
        text += f"quantization.int8-static.per_channel = {per_channel}\n"
        project.manifest(text, 'precisions = ["int8-static"]')
        project.run("-k", "equivalence")
        return project.outcomes()[NAME.format("int8-static", "equivalence[cpu]")]

    assert outcome("true") == "passed"
    assert outcome("false") == "failed"
    reason = project.reason(NAME.format("int8-static", "equivalence[cpu]"))
    assert reason.startswith("output 'y' rel_rms [")
    assert "pass is at most 0.15, fail beyond 0.35" in reason


def test_a_half_whose_values_overflow_fails_though_the_cpu_provider_hides_it(project: Project):
    (project.path / "scaled.py").write_text(SCALED)
    text = mlps("net").replace("nets.py:mlp", "scaled.py:Large")
    project.manifest(text, 'precisions = ["half"]')
    result = project.run("-k", "equivalence")
    assert result.ret == 1
    reason = project.reason(NAME.format("half", "equivalence[cpu]"))
    assert "with float16 overflow in " in reason


def test_the_repro_folder_of_a_variant_with_16_bit_inputs_runs(project: Project):
    text = mlps("net") + "[models.net.tolerance.half]\nmax_abs = 1e-9\n"
    project.manifest(text, 'precisions = ["half"]')
    project.run("-k", "equivalence")
    (folder,) = project.path.glob("**/repro/net/*half-cpu")
    assert json.loads((folder / "repro.json").read_text())["narrowed"] == ["x", "y"]
    done = subprocess.run(
        [sys.executable, str(folder / "repro.py")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "they differ" in done.stdout
    assert "ONNX Runtime [1, 4] float32" in done.stdout
