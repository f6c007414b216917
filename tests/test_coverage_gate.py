"""The gate on variants that are none, or that lose weights and values; each goes red."""

from __future__ import annotations

import shutil

import pytest
import torch
from project import Project
from torch import nn

NETS = """
import torch
from torch import nn


def relu():
    return nn.Sequential(nn.ReLU())


def convolutional():
    return nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 4))


def mostly_convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(32, 4),
    )


class Masked(nn.Module):
    "Attention with slopes and a causal mask in one buffer."

    def __init__(self):
        super().__init__()
        self.q, self.k = nn.Linear(8, 8), nn.Linear(8, 8)
        slopes = -0.25 * torch.arange(6.0).expand(6, 6)
        self.register_buffer("bias", slopes + torch.triu(torch.full((6, 6), -1e9), 1))

    def forward(self, x):
        return torch.softmax(self.q(x) @ self.k(x).transpose(1, 2) + self.bias, -1) @ x


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def outlier():
    "One weight beyond float16."
    net = mlp()
    with torch.no_grad():
        net[0].weight[3, 5] = 1e5
        net[2].weight *= 1e-5
    return net


class Scaled(nn.Module):
    "Fine in float32; its values leave float16, on one side or the other."

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.first, self.last = nn.Linear(8, 8), nn.Linear(8, 4)

    def forward(self, x):
        h = self.first(x) * self.scale * self.scale
        return self.last(torch.relu(h) / self.scale / self.scale)


def large():
    return Scaled(2.0**9)


def small():
    return Scaled(2.0**-14)
"""

MANIFEST = """
[models.nothing]
factory = "coverage_nets.py:relu"
precisions = ["int8-dynamic"]
inputs.x.shape = [2, 8]
outputs.y.shape = [2, 8]

[models.too_little]
factory = "coverage_nets.py:convolutional"
precisions = ["int8-dynamic"]
dims = { batch = [1, 2] }
inputs.x.shape = ["batch", 1, 8, 8]
outputs.y.shape = ["batch", 4]
budget.int8-dynamic.min_coverage = 0.9

[models.blocked]
factory = "coverage_nets.py:convolutional"
precisions = ["fp16"]
inputs.x.shape = [2, 1, 8, 8]
outputs.y.shape = [2, 4]
quantization.fp16.op_block_list = ["Conv", "Gemm"]

[models.little]
factory = "coverage_nets.py:mostly_convolutional"
precisions = ["int8-dynamic"]
inputs.x.shape = [2, 1, 8, 8]
outputs.y.shape = [2, 4]

[models.masked]
factory = "coverage_nets.py:Masked"
precisions = ["fp16"]
dims = { batch = [1, 2] }
inputs.x.shape = ["batch", 6, 8]
outputs.y.shape = ["batch", 6, 8]

[models.copied]
factory = "coverage_nets.py:mlp"
checkpoint = "mlp.pt"
onnx = { fp32 = "float.onnx", int8-static = "int8.onnx" }
dims = { batch = [1, 2] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]

[models.outlier]
factory = "coverage_nets.py:outlier"
precisions = ["fp16"]
dims = { batch = [1, 2] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]

[models.large]
factory = "coverage_nets.py:large"
precisions = ["fp16"]
dims = { batch = [1, 2] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]

[models.small]
factory = "coverage_nets.py:small"
precisions = ["fp16"]
dims = { batch = [1, 2] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]

[models.healthy]
factory = "coverage_nets.py:mlp"
checkpoint = "mlp.pt"
precisions = ["fp16", "int8-dynamic", "int8-static"]
dims = { batch = [1, 2] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
[models.healthy.budget]
fp16.min_coverage = 1.0
int8-static.min_coverage = 1.0
int8-dynamic.min_coverage = 0.5
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("coverage_gate"))
    (project.path / "coverage_nets.py").write_text(NETS)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    torch.save(net.state_dict(), project.path / "mlp.pt")
    torch.onnx.export(
        net,
        (torch.zeros(2, 8),),
        str(project.path / "float.onnx"),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
    )
    shutil.copy(project.path / "float.onnx", project.path / "int8.onnx")
    project.manifest(MANIFEST)
    project.run("-m", "quantization or equivalence")
    return project


def check(project, model, kind="quantization"):
    (found,) = [
        entry
        for entry in project.record["checks"]
        if entry["model"] == model and entry["check"] == kind and entry["variant"] != "file-fp32"
    ]
    return found


def test_a_variant_in_which_nothing_was_quantized_fails(run: Project):
    found = check(run, "nothing")
    assert found["outcome"] == "failed"
    assert (
        "nothing was quantized: none of the weights and none of the multiply-accumulates are "
        "int8-dynamic"
    ) in found["reason"]
    assert found["measurement"]["coverage"]["weights"] is None


def test_a_variant_of_which_every_layer_was_blocked_fails_and_names_the_list(run: Project):
    found = check(run, "blocked")
    assert found["outcome"] == "failed"
    assert (
        "nothing was quantized: none of the weights and none of the multiply-accumulates are fp16 "
        "with op_block_list = ['Conv', 'Gemm']"
    ) in found["reason"]
    assert "Shorten op_block_list of [models.NAME.quantization.fp16]" in found["reason"]


def test_a_variant_of_which_little_was_quantized_warns(run: Project):
    found = check(run, "little")
    assert found["outcome"] == "passed"
    (told,) = [entry for entry in found["findings"] if entry["what"] == "coverage"]
    assert told["grade"] == "warn"
    assert told["text"].startswith("only 0.013 of the weights and 0.0")
    assert "left in float: Conv " in told["text"]


def test_a_mask_in_a_bias_is_no_clipped_weight(run: Project):
    assert check(run, "masked")["outcome"] == "passed"
    assert check(run, "masked", "equivalence")["outcome"] == "passed"


def test_a_copy_of_the_float_model_under_another_name_fails(run: Project):
    found = check(run, "copied")
    assert found["outcome"] == "failed"
    assert "is the fp32 artefact under another name, byte for byte" in found["reason"]
    assert found["measurement"]["identical"] is True


def test_less_coverage_than_asked_for_fails_and_names_what_is_left(run: Project):
    found = check(run, "too_little")
    assert found["outcome"] == "failed"
    share = found["measurement"]["coverage"]["compute"]
    assert share == 4 * 288 / (4 * 288 + 36 * 8 * 9)
    assert (
        f"{share:.2f} of the multiply-accumulates are int8-dynamic, asked for at least 0.9 "
        "(budget.min_coverage); left in float: Conv "
    ) in found["reason"]


def test_a_weight_beyond_float16_fails(run: Project):
    found = check(run, "outlier")
    assert found["outcome"] == "failed"
    assert (
        "beyond 65504, the largest float16, and clipped to it: 0.weight (1 of 128"
        in (found["reason"])
    )
    assert "exclude_nodes or op_block_list" in found["reason"]


def test_values_that_overflow_fail(run: Project):
    found = check(run, "large", "equivalence")
    assert found["outcome"] == "failed"
    assert "with float16 overflow in " in found["reason"]
    assert check(run, "large")["outcome"] == "passed"  # its weights are fine


def test_values_that_underflow_are_told_by_name(run: Project):
    findings = check(run, "small", "equivalence")["findings"]
    (told,) = [entry for entry in findings if entry["what"] == "float16 underflow"]
    assert told["grade"] == "warn"
    assert told["text"].startswith("most elements of /Mul_1_output_0, /Relu_output_0 turn to zero")


def test_healthy_variants_pass_and_are_measured(run: Project):
    checks = [entry for entry in run.record["checks"] if entry["model"] == "healthy"]
    assert {entry["outcome"] for entry in checks} == {"passed"}
    measured = {
        entry["variant"].partition("op17-")[2]: entry["measurement"]
        for entry in checks
        if entry["check"] == "quantization"
    }
    assert measured["int8-static"]["coverage"] == {
        "weights": 1.0,
        "compute": 1.0,
        "uncounted": 0,
        "floating": [],
    }
    checkpoint = (run.path / "mlp.pt").stat().st_size
    assert {entry["checkpoint_bytes"] for entry in measured.values()} == {checkpoint}
    assert not any(entry["identical"] for entry in measured.values())
    for entry in checks:
        if entry["check"] == "equivalence":
            cases = entry["measurement"]["cases"]
            assert all(0 <= case["outputs"][0]["top1"] <= 1 for case in cases)
