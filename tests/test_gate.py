"""The gate on real models: healthy ones pass, and every check goes red on a fault made for it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
import json
import re

import numpy as np
import onnx
import pytest
import torch
from project import NETS, Project, checks_of, mlps
from torch import nn

FP32 = "torchscript-op17-fp32"
INT8 = "torchscript-op17-int8-static"


def test_healthy_models_pass_with_both_exporters_and_every_precision(project: Project):
    precisions = ["fp32", "fp16", "int8-dynamic", "int8-static"]
    project.manifest(
        mlps("net"), f'exporters = ["dynamo", "torchscript"]\nprecisions = {json.dumps(precisions)}'
    )
    result = project.run("-m", "not latency")
    assert result.ret == 0
    assert set(project.outcomes().values()) == {"passed"}
    assert set(project.outcomes()) == {
        f"net::{exporter}-op17-{precision}::{check}"
        for exporter in ("dynamo", "torchscript")
        for precision in precisions
        for check in checks_of(precision, points=())
    }
    checks = project.record["checks"]
    worst = {
        check["variant"]: max(
            output["max_abs"]
            for case in check["measurement"]["cases"]
            for output in case["outputs"]
            if not case["probe"]  # those may be large
        )
        for check in checks
        if check["check"] == "equivalence"
    }
    # each precision loses something, in this order: it is really another artefact
    for exporter in ("dynamo", "torchscript"):
        fp32, fp16, int8 = (
            worst[f"{exporter}-op17-{precision}"] for precision in ("fp32", "fp16", "int8-static")
        )
        assert 0 <= fp32 < 1e-6 < fp16 < 1e-2
        assert fp16 < int8 < 0.2


def test_the_record_holds_versions_seed_and_hashes(project: Project):
    project.manifest(mlps("net"))
    project.run("-k", "export")
    record = project.record
    # torch.__version__ may have +cu130 behind it
    assert record["environment"]["packages"]["torch"] == importlib.metadata.version("torch")
    assert {"pytest", "onnx", "onnxscript", "onnxruntime", "numpy"} <= set(
        record["environment"]["packages"]
    )
    assert record["manifests"][0]["seed"] == 0
    assert len(record["manifests"][0]["sha256"]) == 64
    assert len(record["checks"][0]["measurement"]["file"]["sha256"]) == 64


def test_an_artefact_is_built_once_and_reused_until_something_changes(project: Project):
    def cached(*, fresh: bool = False) -> bool:
        project.run("-k", "export", fresh=fresh)
        return project.record["checks"][0]["measurement"]["cached"]

    project.manifest(mlps("net"))
    assert cached() is False
    assert cached(fresh=True) is True  # in an interpreter whose hashes and addresses are others
    nets = (project.path / "nets.py").read_text()
    (project.path / "nets.py").write_text(
        nets.replace("nn.ReLU(), nn.Linear", "nn.GELU(), nn.Linear")
    )
    assert cached() is False
    manifest = (project.path / "models.toml").read_text()
    (project.path / "models.toml").write_text(manifest.replace("[1, 3]", "[1, 4]"))
    assert cached() is False


def test_an_attribute_read_from_a_file_makes_another_artefact(project: Project):
    (project.path / "gained.py").write_text(
        "import json, pathlib, torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        path = pathlib.Path(__file__).with_name('gain.json')\n"
        "        self.gain = json.loads(path.read_text())\n"
        "    def forward(self, x):\n"
        "        return self.gain * x\n"
        "def make(): return Net().eval()\n"
    )
    project.manifest(mlps("net").replace("nets.py:mlp", "gained.py:make").replace("4]", "8]"))
    for gain in ("1.0", "3.0"):
        (project.path / "gain.json").write_text(gain)
        result = project.run("-k", "equivalence")
        assert result.ret == 0


def save_artefact(project: Project, module: nn.Module, name: str) -> None:
    """Writes an artefact as a careless release script would."""
    torch.onnx.export(
        module,
        (torch.zeros(2, 8),),
        str(project.path / name),
        dynamo=False,
        input_names=["x"],
        output_names=["left", "right"],
        dynamic_axes={"x": {0: "batch"}, "left": {0: "batch"}, "right": {0: "batch"}},
    )


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.left(x), self.right(x)


class Swapped(TwoHeads):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.right(x), self.left(x)


TWO_HEADS = """
[models.{name}]
factory = "nets.py:two_heads"
checkpoint = "heads.pt"
onnx = "{onnx}"
dims = {{ batch = [1, 3] }}
inputs.x.shape = ["batch", 8]
outputs.left.shape = ["batch", 4]
outputs.right.shape = ["batch", 4]
"""


def test_faults_in_given_artefacts_are_caught_and_the_healthy_one_passes(project: Project):
    torch.manual_seed(0)
    healthy = TwoHeads().eval()
    torch.save(healthy.state_dict(), project.path / "heads.pt")
    save_artefact(project, healthy, "healthy.onnx")

    wrong_weight = TwoHeads().eval()
    wrong_weight.load_state_dict(healthy.state_dict())
    with torch.no_grad():
        wrong_weight.left.weight[1, 2] += 0.01
    save_artefact(project, wrong_weight, "wrong_weight.onnx")

    swapped = Swapped().eval()
    swapped.load_state_dict(healthy.state_dict())
    save_artefact(project, swapped, "swapped.onnx")

    project.manifest(
        "".join(
            TWO_HEADS.format(name=name, onnx=f"{name}.onnx".replace("missing", "swaped"))
            for name in ("healthy", "wrong_weight", "swapped", "missing")
        )
    )
    result = project.run("-m", "not latency")
    outcomes = project.outcomes()
    assert {o for nodeid, o in outcomes.items() if nodeid.startswith("healthy")} == {"passed"}
    for name in ("wrong_weight", "swapped"):
        assert outcomes[f"{name}::file-fp32::test_structure"] == "passed"
        assert outcomes[f"{name}::file-fp32::test_equivalence[cpu]"] == "failed"
    result.stdout.fnmatch_lines(
        [
            "output 'left' error [[]batch=1/draw0]: * noise floors, allowed 8: worst * against *",
            "  wrong_weight · file-fp32 · cpu",
            "  output 'left' [[]1, 4[]] float32, batch=1/draw0",
            "    25.0% of 4 elements outside",
            "*noise floor *",
            "*max_abs 0.0*, mean_abs *, mse *, max_rel *, cosine *, max |PyTorch| *",
            "*index*PyTorch*ONNX*difference",
            "*[[]*, 1[]] *",
        ]
    )
    assert [
        finding["text"]
        for check in project.record["checks"]
        for finding in check.get("findings", ())
        if check["model"] == "swapped" and finding["where"] == "batch=1/draw0"
        if finding["what"].endswith("values")
    ] == [f"are those of output {name!r}: outputs are mixed up" for name in ("right", "left")]
    # one check owns the missing file, the others say which
    assert outcomes["missing::file-fp32::test_export"] == "failed"
    assert outcomes["missing::file-fp32::test_structure"] == "skipped"
    reason = project.reason("missing::file-fp32::test_export")
    assert "artefact not found" in reason
    assert "did you mean 'swapped.onnx'?" in reason
    assert project.reason("missing::file-fp32::test_equivalence[cpu]") == (
        "needs what failed in models.toml::missing::file-fp32::test_export"
    )


GIVEN = """
[models.net]
factory = "nets.py:mlp"
checkpoint = "net.pt"
onnx = "net.onnx"
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
"""


def save_with_data(project: Project) -> None:
    """An artefact of the mlp whose weights are in 848 bytes of `net.data`."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    torch.save(module.state_dict(), project.path / "net.pt")
    file = io.BytesIO()
    names = {"input_names": ["x"], "output_names": ["y"]}
    axes = {"x": {0: "batch"}, "y": {0: "batch"}}
    torch.onnx.export(module, (torch.zeros(2, 8),), file, dynamo=False, dynamic_axes=axes, **names)
    onnx.save(
        onnx.load_from_string(file.getvalue()),
        project.path / "net.onnx",
        save_as_external_data=True,
        location="net.data",
        size_threshold=0,
    )


def test_an_artefact_with_all_its_data_passes_and_each_file_is_hashed(project: Project):
    save_with_data(project)
    project.manifest(GIVEN)
    assert project.run("-m", "not latency").ret == 0
    (export,) = (check for check in project.record["checks"] if check["check"] == "export")
    files = export["measurement"]["file"]["files"]
    assert {file["name"]: file["sha256"] for file in files} == {
        name: hashlib.sha256((project.path / name).read_bytes()).hexdigest()
        for name in ("net.onnx", "net.data")
    }


def test_data_that_is_cut_short_fails_once_and_no_check_passes(project: Project):
    save_with_data(project)
    with (project.path / "net.data").open("rb+") as data:
        data.truncate(840)
    project.manifest(GIVEN)
    assert project.run("-m", "not latency").ret == 1
    assert project.outcomes() == {
        "net::file-fp32::test_export": "failed",
        "net::file-fp32::test_structure": "skipped",
        "net::file-fp32::test_equivalence[cpu]": "skipped",
    }
    reason = project.reason("net::file-fp32::test_export")
    assert reason.startswith(
        f"{project.path / 'net.onnx'}: external data: data file 'net.data' has 840 bytes; weight "
    )
    assert reason.endswith(
        ". Ship the .onnx with the data that was written with it, all of it, in one folder"
    )
    project.run("-k", "structure")
    assert project.outcomes() == {"net::file-fp32::test_structure": "failed"}


def test_a_static_batch_is_caught_by_structure_and_by_the_sweep(project: Project):
    project.manifest(
        """
        [models.net]
        factory = "nets.py:baked_batch"
        dims = { batch = [2, 3] }
        inputs.x.shape = ["batch", 8]
        outputs.y.shape = ["batch", 2, 2]
        """
    )
    result = project.run("-m", "not latency")
    reason = project.reason(f"net::{FP32}::test_equivalence[cpu]")
    assert "batch=3" in reason
    assert "ONNX Runtime failed on x [3, 8]" in reason
    # its own lines on stderr: one, however many runs failed
    (said,) = [line for line in result.outlines if line.startswith("onnxruntime [E] ")]
    assert re.search(r" \(said \d+ times\)$", said)
    assert not any("[E:onnxruntime" in line for line in result.outlines)


CONSTANTS_AND_TIED = """
import torch
from torch import nn


class Anchored(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 4)
        self.register_buffer("anchors", torch.rand(6, 4))

    def forward(self, x):
        return self.linear(x), self.anchors, torch.zeros_like(x), torch.arange(8.0)


def anchored():
    return Anchored().eval()


class Tied(nn.Module):
    def forward(self, x, y):
        if x.shape[0] == y.shape[0]:
            return x * 2, y * 2
        return x + x, y + y


def tied():
    return Tied().eval()
"""


def test_outputs_that_follow_no_input_in_pytorch_either_are_healthy(project: Project):
    (project.path / "nets.py").write_text(CONSTANTS_AND_TIED)
    project.manifest(
        """
        [models.net]
        factory = "nets.py:anchored"
        dims = { batch = [1, 3] }
        inputs.x.shape = ["batch", 8]
        outputs.y.shape = ["batch", 4]
        outputs.anchors.shape = [6, 4]
        outputs.zeros.shape = ["batch", 8]
        outputs.positions.shape = [8]
        """
    )
    assert project.run("-m", "not latency").ret == 0
    for check in project.record["checks"]:
        if check["check"] == "structure":
            whats = {finding["what"] for finding in check["findings"]}
            assert whats == {"output 'anchors'", "output 'positions'"}
            assert {finding["grade"] for finding in check["findings"]} == {"warn"}
    assert set(project.outcomes().values()) == {"passed"}


def test_dims_that_an_exporter_ties_together_fail(project: Project):
    # both sizes are 2 when it is exported, and forward asks whether they are equal
    (project.path / "nets.py").write_text(CONSTANTS_AND_TIED)
    project.manifest(
        """
        [models.net]
        factory = "nets.py:tied"
        exporters = ["dynamo"]
        opsets = [20]
        dims = { batch = [2, 3], sequence = [2, 5] }
        inputs.x.shape = ["batch", 8]
        inputs.y.shape = ["sequence", 8]
        outputs.a.shape = ["batch", 8]
        outputs.b.shape = ["sequence", 8]
        """
    )
    assert project.run("-k", "structure").ret == 1
    assert project.reason("net::dynamo-op20-fp32::test_structure").startswith(
        "input 'y': dim 0 ('sequence') is one with dim 0 ('batch') of input 'x': both are 'batch' "
        "in the artefact, which promises equal sizes only, and in PyTorch 'batch' can be 2 and "
        "'sequence' 5. Export with sizes that differ"
    )


def test_a_dim_declared_dynamic_but_static_in_the_artefact(project: Project):
    torch.manual_seed(0)
    module = TwoHeads().eval()
    torch.save(module.state_dict(), project.path / "heads.pt")
    torch.onnx.export(
        module,
        (torch.zeros(3, 8),),
        str(project.path / "static.onnx"),
        dynamo=False,
        input_names=["x"],
        output_names=["left", "right"],
    )
    project.manifest(TWO_HEADS.format(name="net", onnx="static.onnx"))
    project.run("-k", "structure")
    reason = project.reason("net::file-fp32::test_structure")
    assert (
        "input 'x': dim 0 ('batch') is static: 3 in [3, 8], declared dynamic [batch, 8]" in reason
    )


def test_an_int8_in_which_nothing_was_quantized(project: Project):
    project.manifest(
        """
        [models.net]
        factory = "nets.py:conv"
        precisions = ["int8-dynamic"]
        inputs.x.shape = [1, 1, 8, 8]
        outputs.y.shape = [1, 4, 6, 6]
        """
    )
    project.run("-k", "quantization")
    reason = project.reason("net::torchscript-op17-int8-dynamic::test_quantization")
    assert "nothing was quantized" in reason
    assert "left in float: 1 Conv" in reason


def test_an_artefact_whose_input_has_another_name_says_so_once(project: Project):
    torch.manual_seed(0)
    module = TwoHeads().eval()
    torch.save(module.state_dict(), project.path / "heads.pt")
    save_artefact(project, module, "heads.onnx")
    model = onnx.load(project.path / "heads.onnx")
    for node in model.graph.node:
        node.input[:] = ["features" if used == "x" else used for used in node.input]
    model.graph.input[0].name = "features"
    onnx.save(model, project.path / "heads.onnx")
    project.manifest(TWO_HEADS.format(name="net", onnx="heads.onnx"))
    project.run("-k", "equivalence")
    check = project.record["checks"][0]
    assert check["reason"] == (
        "the artefact needs inputs ['features'], which the manifest lacks; it has ['x']: give "
        "the inputs the same names here and there"
    )
    assert not check.get("findings")  # and not one a case


def test_a_given_int8_artefact_that_is_float(project: Project):
    torch.manual_seed(0)
    module = TwoHeads().eval()
    torch.save(module.state_dict(), project.path / "heads.pt")
    save_artefact(project, module, "float.onnx")
    manifest = TWO_HEADS.format(name="net", onnx="")
    project.manifest(manifest.replace('onnx = ""', 'onnx = { int8-static = "float.onnx" }'))
    project.run("-k", "quantization")
    assert "nothing was quantized" in project.reason("net::file-int8-static::test_quantization")


def test_budgets_of_size_and_speed(project: Project):
    project.on_clock()
    project.manifest(
        mlps("net")
        + """
        [models.net.budget.fp32]
        min_speedup = { cpu = 1000.0 }
        [models.net.budget.int8-static]
        max_size_ratio = 0.01
        max_size_mb = 0.0001
        max_transferred_mb = 0.0002
        [models.net.latency]
        seconds = 0.1
        dims = [{ batch = 1 }]
        """,
        'precisions = ["fp32", "int8-static"]',
    )
    project.run("-k", "latency or quantization")
    speed = project.reason(f"net::{FP32}::test_latency[cpu-batch1]")
    assert speed.startswith("speed-up: ")
    assert "asked for at least 1000 (budget.min_speedup.cpu)" in speed
    assert " time, 99% interval [" in speed
    assert project.outcomes()[f"net::{INT8}::test_latency[cpu-batch1]"] == "passed"
    findings = [
        finding["text"]
        for check in project.record["checks"]
        for finding in check.get("findings", ())
        if check["check"] == "quantization"
    ]
    assert any("allowed 0.01 (budget.max_size_ratio)" in text for text in findings)
    assert any("allowed 0.0001 (budget.max_size_mb)" in text for text in findings)
    assert any("allowed 0.0002 (budget.max_transferred_mb)" in text for text in findings)
    sizes = {
        check["check"]: check["measurement"]["file"]
        for check in project.record["checks"]
        if check["check"] in ("export", "quantization")
    }
    assert 0 < sizes["quantization"]["transferred_bytes"] < sizes["quantization"]["size_bytes"]


class Payload:
    """Unpickling it would create a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_checkpoints_that_are_missing_wrong_or_want_to_run_code(project: Project):
    torch.save({"weights": Payload(str(project.path / "ran"))}, project.path / "code.pt")
    torch.save(nn.Linear(3, 3).state_dict(), project.path / "other.pt")
    names = {"missing": "cod.pt", "code": "code.pt", "other": "other.pt"}
    project.manifest(
        "".join(
            mlps(name).replace("dims =", f'checkpoint = "{file}"\ndims =')
            for name, file in names.items()
        )
    )
    project.run("-m", "not latency")
    outcomes = project.outcomes()
    for name in names:
        assert outcomes[f"{name}::{FP32}::test_export"] == "failed"
        assert outcomes[f"{name}::{FP32}::test_structure"] == "skipped"
        assert outcomes[f"{name}::{FP32}::test_equivalence[cpu]"] == "skipped"
    missing = project.reason(f"missing::{FP32}::test_export")
    assert "checkpoint not found" in missing
    assert "did you mean 'code.pt'?" in missing
    code = project.reason(f"code::{FP32}::test_export")
    assert "trust = true" in code
    assert "could run code" in code
    assert not (project.path / "ran").exists()
    other = project.reason(f"other::{FP32}::test_export")
    assert "does not fit Sequential: missing 0.weight, 0.bias, 2.weight, 2.bias" in other
    assert "unexpected weight, bias" in other


def test_a_model_that_does_not_export_fails_once(project: Project):
    project.manifest(
        """
        [models.net]
        factory = "nets.py:unexportable"
        precisions = ["fp32", "fp16"]
        inputs.x.shape = [4, 4]
        outputs.y.shape = [4]
        """
    )
    project.run()
    outcomes = project.outcomes()
    assert [nodeid for nodeid, o in outcomes.items() if o == "failed"] == [
        f"net::{FP32}::test_export"
    ]
    assert set(outcomes.values()) == {"failed", "skipped"}
    reason = project.reason(f"net::{FP32}::test_export")
    assert "net: torchscript export at opset 17 failed: " in reason
    assert "svd" in reason


def test_a_dependent_check_run_alone_reports_the_failure_itself(project: Project):
    project.manifest(mlps("net").replace("nets.py:mlp", "nets.py:mpl"))
    result = project.run("-k", "structure")
    assert result.ret == 1
    assert "has no 'mpl'" in project.reason(f"net::{FP32}::test_structure")


def test_an_expected_failure_of_export_is_no_failure(project: Project):
    project.manifest(
        """
        [models.net]
        factory = "nets.py:unexportable"
        inputs.x.shape = [4, 4]
        outputs.y.shape = [4]
        [[models.net.xfail]]
        reason = "svdvals has no ONNX operator"
        checks = ["export"]
        """
    )
    result = project.run()
    assert result.ret == 0
    assert project.outcomes()[f"net::{FP32}::test_export"] == "xfailed"


def test_an_expected_failure_hides_no_other_one(project: Project):
    project.manifest(
        mlps("net").replace("dims =", 'checkpoint = "gone.pt"\ndims =')
        + '[[models.net.xfail]]\nreason = "exporter"\nchecks = ["export"]'
    )
    result = project.run("-m", "not latency")
    assert result.ret == 1
    outcomes = project.outcomes()
    assert outcomes[f"net::{FP32}::test_export"] == "xfailed"
    assert outcomes[f"net::{FP32}::test_structure"] == "failed"
    assert "checkpoint not found" in project.reason(f"net::{FP32}::test_structure")


def test_two_manifests_do_not_share_modules_of_one_name(project: Project):
    for folder, factory in (("a", "mlp"), ("b", "conv")):
        (project.path / folder).mkdir()
        (project.path / folder / "twin.py").write_text(NETS + f"\nmake = {factory}\n")
        project.manifest(
            mlps("net").replace("nets.py:mlp", "twin:make"), name=f"{folder}/models.toml"
        )
    result = project.run("a", "b", "-k", "structure")
    assert result.ret == 1
    reasons = [check["reason"] for check in project.record["checks"]]
    assert reasons[0] == ""
    assert "a module 'twin' was already imported from" in reasons[1]


def test_the_record_tells_of_a_run_that_could_not_collect(project: Project):
    project.manifest(mlps("net"))
    project.run("-k", "structure")
    assert project.record["exitstatus"] == 0
    project.manifest(mlps("net") + "outputs.z.shpae = [1]\n")
    project.run("-k", "structure")
    assert project.record["exitstatus"] != 0
    assert project.record["checks"] == []
    assert "unknown key 'shpae'" in project.record["errors"][0]["error"]


def test_an_expected_failure_that_passes_is_told(project: Project):
    project.manifest(mlps("net") + '[[models.net.xfail]]\nreason = "old"\nchecks = ["structure"]')
    result = project.run("-k", "structure")
    assert result.ret == 1
    assert "[XPASS(strict)] old" in project.reason(f"net::{FP32}::test_structure")


def test_a_factory_in_train_mode_is_told(project: Project):
    project.manifest(mlps("net").replace("nets.py:mlp", "nets.py:in_train_mode"))
    result = project.run("-m", "not latency")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["warn  *nets.py:in_train_mode gives the model in train mode*"])


def test_outputs_outside_the_declared_range(project: Project):
    project.manifest(mlps("net") + "outputs.y.range = [100.0, 200.0]\n")
    project.run("-k", "equivalence")
    reason = project.reason(f"net::{FP32}::test_equivalence[cpu]")
    assert "PyTorch itself gives 100.00% of the elements outside the declared range" in reason


def test_the_wrong_number_of_outputs_is_told(project: Project):
    project.manifest(mlps("net") + 'outputs.z.shape = ["batch", 4]\n')
    project.run("-k", "export")
    reason = project.reason(f"net::{FP32}::test_export")
    assert "PyTorch returns 1 tensors (0), the manifest declares 2 outputs: y, z" in reason


def test_an_absent_target_is_skipped_with_its_reason_and_fails_when_required(project: Project):
    project.manifest(mlps("free", "needy"), 'targets = ["cpu", "openvino"]')
    text = (project.path / "models.toml").read_text()
    (project.path / "models.toml").write_text(
        text.replace("[models.needy]\n", '[models.needy]\nrequired_targets = ["openvino"]\n')
    )
    result = project.run("-k", "equivalence", "-rs")
    outcomes = project.outcomes()
    assert outcomes[f"free::{FP32}::test_equivalence[openvino]"] == "skipped"
    assert outcomes[f"needy::{FP32}::test_equivalence[openvino]"] == "failed"
    result.stdout.fnmatch_lines(
        ["SKIPPED*models.toml: openvino: OpenVINOExecutionProvider is not in this onnxruntime *"]
    )
    reason = project.reason(f"needy::{FP32}::test_equivalence[openvino]")
    assert "The manifest requires this target (required_targets)." in reason


@pytest.mark.parametrize("kind", ["keyword", "positional"])
def test_inputs_are_passed_as_forward_takes_them(project: Project, kind: str):
    names = {"keyword": ("scale", "x"), "positional": ("first", "second")}[kind]
    (project.path / "order.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def forward(self, x, unused=None, scale=None):\n"
        "        return x - 2 * scale\n"
        "class Plain(torch.nn.Module):\n"
        "    def forward(self, x, scale):\n"
        "        return x - 2 * scale\n"
        f"def make(): return {'Net' if kind == 'keyword' else 'Plain'}().eval()\n"
    )
    project.manifest(
        f"""
        [models.net]
        factory = "order.py:make"
        dims = {{ batch = [1, 3] }}
        inputs.{names[0]}.shape = ["batch", 8]
        inputs.{names[1]}.shape = ["batch", 8]
        outputs.y.shape = ["batch", 8]
        """,
        'exporters = ["dynamo", "torchscript"]',
    )
    result = project.run("-m", "not latency")
    assert result.ret == 0, project.outcomes()


BEHAVIOUR = """
import numpy as np
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.called = forward

    def forward(self, x):
        return self.called(x)


def of(forward):
    return lambda: Net(forward).eval()


class Stateful(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x + self.calls


def stateful():
    return Stateful().eval()


def branch(x):
    return x * 2 if x.mean() > 0 else x * 3


def scores(x):
    total = x.sum(1)
    return torch.stack([total * 1.0, total * 1.0], 1)


EYE = np.eye(8, dtype="float32")

random = of(lambda x: x + torch.rand(()))
ordered = of(lambda x: {"logits": x, "hidden": x + 1})
branching = of(branch)
softplus = of(nn.Softplus(beta=2, threshold=3))
in_place = of(lambda x: x.add_(1) * 2)
tied = of(lambda x: scores(x).argmax(1))
other_tied = of(lambda x: 1 - scores(x).argmax(1))
clear = of(lambda x: torch.stack([x.sum(1), x.sum(1).abs() + 1], 1).argmax(1))
other_clear = of(lambda x: torch.stack([x.sum(1), x.sum(1).abs() + 1], 1).argmin(1))
narrow = of(lambda x: x @ torch.from_numpy(EYE) * 3)
narrowed = of(lambda x: x * 3.001)


def large():
    return nn.Sequential(nn.Linear(8, 64), nn.Linear(64, 4)).eval()
"""

#: model -> the lines that tell it from `x` [batch, 8] to `y` [batch, 8]
BEHAVING = {
    "stateful": 'factory = "behaviour.py:stateful"',
    "random": 'factory = "behaviour.py:random"',
    "ordered": 'factory = "behaviour.py:ordered"\noutputs.hidden.shape = ["batch", 8]\n'
    'outputs.logits.shape = ["batch", 8]',
    "branching": 'factory = "behaviour.py:branching"\ninputs.x.mean = 5',
    "branching_fixed": 'factory = "behaviour.py:branching"\ninputs.x.mean = 5\n'
    "tolerance.fp32.max_abs = 1e-3",
    "branching_unprobed": 'factory = "behaviour.py:branching"\ninputs.x.mean = 5\n'
    "probe_seconds = 0",
    "softplus": 'factory = "behaviour.py:softplus"\ninputs.x.std = 0.3',
    "outside": 'factory = "behaviour.py:softplus"\ninputs.x.std = 0.3\nprobe_seconds = 0\n'
    'cases.far = { file = "far.npz", outside_range = true }',
    "inside": 'factory = "behaviour.py:softplus"\ninputs.x.std = 0.3\nprobe_seconds = 0\n'
    'cases.far.file = "far.npz"',
    "in_place": 'factory = "behaviour.py:in_place"',
    "tied": 'factory = "behaviour.py:tied"\nonnx = "other_tied.onnx"\n'
    'outputs.y = { shape = ["batch"], dtype = "int64" }',
    "tied_fixed": 'factory = "behaviour.py:tied"\nonnx = "other_tied.onnx"\n'
    'outputs.y = { shape = ["batch"], dtype = "int64" }\nprobe_seconds = 0\n'
    'tolerance.fp32.policy = "fixed"',
    "clear": 'factory = "behaviour.py:clear"\nonnx = "other_clear.onnx"\n'
    'outputs.y = { shape = ["batch"], dtype = "int64" }',
    "narrow": 'factory = "behaviour.py:narrow"',
    "narrow_wrong": 'factory = "behaviour.py:narrow"\nonnx = "narrowed.onnx"',
    "narrow_accepted": 'factory = "behaviour.py:narrow"\nonnx = "narrowed.onnx"\n'
    "inputs.x.range = [-5.0, 5.0]\ntolerance.fp32.max_abs = 0.05",
    "large": 'factory = "behaviour.py:large"\ninputs.x.std = 1e6\noutputs.y.shape = ["batch", 4]',
    "large_fixed": 'factory = "behaviour.py:large"\ninputs.x.std = 1e6\n'
    'outputs.y.shape = ["batch", 4]\ntolerance.fp32.policy = "fixed"',
}


@pytest.fixture(scope="module")
def behaving(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One run over models that behave in all the ways models do."""
    project = Project(tmp_path_factory.mktemp("behaviour"))
    (project.path / "behaviour.py").write_text(BEHAVIOUR)
    space: dict[str, object] = {}
    exec(BEHAVIOUR, space)
    for name in ("other_tied", "other_clear", "narrowed"):
        torch.onnx.export(
            space[name](),
            (torch.randn(2, 8),),
            str(project.path / f"{name}.onnx"),
            dynamo=False,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
        )
    np.savez(project.path / "far.npz", x=np.full((2, 8), 1.6, "float32"))
    tables = []
    for name, lines in BEHAVING.items():
        head = f"[models.{name}]\ndims = {{ batch = [1, 3] }}\n"
        head += 'inputs.x.shape = ["batch", 8]\n'
        if "outputs." not in lines:
            head += 'outputs.y.shape = ["batch", 8]\n'
        tables.append(head + lines)
    project.manifest("\n".join(tables))
    project.result = project.run("-m", "equivalence")
    return project


def found(project: Project, model: str) -> dict:
    """The entry of a model's equivalence check."""
    (check,) = [check for check in project.record["checks"] if check["model"] == model]
    return check


def test_a_model_that_keeps_state_fails_and_its_buffer_is_named(behaving: Project):
    check = found(behaving, "stateful")
    assert check["outcome"] == "failed"
    assert "PyTorch keeps state between calls (changed: calls)" in check["reason"]


def test_a_model_that_draws_random_numbers_fails(behaving: Project):
    check = found(behaving, "random")
    assert check["outcome"] == "failed"
    assert "PyTorch is nondeterministic" in check["reason"]


def test_outputs_declared_in_another_order_than_a_dict_has_fail(behaving: Project):
    check = found(behaving, "ordered")
    assert check["outcome"] == "failed"
    assert (
        "forward returns logits, hidden in this order, the manifest declares hidden"
        in (check["reason"])
    )


def draws_and_probes(check: dict) -> tuple[set[str], set[str]]:
    """The cases that failed, by whether the plugin thought of them."""
    probes = {case["case"] for case in check["measurement"]["cases"] if case["probe"]}
    failed = {finding["where"] for finding in check["findings"] if finding["grade"] == "fail"}
    return failed - probes, failed & probes


def assert_a_probe_alone_fails(check: dict) -> None:
    assert check["outcome"] == "failed"
    draws, probes = draws_and_probes(check)
    assert draws == set()
    assert any(name.startswith("probe:negative") for name in probes)


def test_a_branch_that_the_trace_froze_is_found_by_a_probe(behaving: Project):
    check = found(behaving, "branching")
    assert_a_probe_alone_fails(check)
    assert "noise floors, allowed 8" in check["reason"]
    assert "[probe:" in check["reason"]


def test_a_fixed_tolerance_does_not_switch_the_probes_off(behaving: Project):
    check = found(behaving, "branching_fixed")
    assert_a_probe_alone_fails(check)
    assert "; rounding does not explain it: " in check["reason"]
    held = check["measurement"]["held_to"]
    assert (held["cases"], held["unprobed"]) == (2, "")
    assert held["probes"] == found(behaving, "branching")["measurement"]["held_to"]["probes"]


def test_what_was_held_to_no_probes_says_why(behaving: Project):
    check = found(behaving, "branching_unprobed")
    assert check["outcome"] == "passed"
    assert check["measurement"]["held_to"] == {
        "cases": 2,
        "probes": 0,
        "drawn": True,
        "perturbed_runs": 0,
        "unprobed": "probe_seconds is 0",
        "sizes": 0,
        "skipped": [],
    }
    output = behaving.result.stdout
    output.re_match_lines([r". branching_unprobed  1 variant \S+  2 cases$"])
    output.re_match_lines([r"no probes  .*\bbranching_unprobed::\S+.*: probe_seconds is 0"])


def test_a_threshold_of_ones_own_leaves_no_built_in_one_in_force(behaving: Project):
    check = found(behaving, "narrow_accepted")
    assert (check["outcome"], check["grade"]) == ("passed", "pass")
    outputs = [case["outputs"][0] for case in check["measurement"]["cases"]]
    # what `fixed` has built in
    assert max(output["mse"] for output in outputs) > 1e-8
    assert max(output["max_abs"] for output in outputs) > 1e-4


def test_a_threshold_that_the_exporter_drops_is_found_by_a_probe(behaving: Project):
    check = found(behaving, "softplus")
    assert check["outcome"] == "failed"
    draws, probes = draws_and_probes(check)
    assert draws == set()
    assert probes
    assert "output 'y' error [probe:" in check["reason"]


def test_what_differs_outside_the_range_warns_and_inside_fails(behaving: Project):
    inside, outside = found(behaving, "inside"), found(behaving, "outside")
    assert (inside["outcome"], outside["outcome"]) == ("failed", "passed")
    assert inside["reason"].startswith("output 'y' error [case:far]: ")
    assert outside["grade"] == "warn"
    assert outside["reason"].startswith("output 'y' error [case:far]: ")
    assert outside["reason"].endswith(
        "; no failure, since the manifest declares this case outside the model's range"
    )


def test_an_input_changed_in_place_passes_with_a_warning(behaving: Project):
    check = found(behaving, "in_place")
    assert (check["outcome"], check["grade"]) == ("passed", "warn")
    assert "reference: forward changes its input 'x' in place" in check["reason"]


def test_integers_that_tie_warn_and_others_fail(behaving: Project):
    clear = found(behaving, "clear")
    for model in ("tied", "tied_fixed"):
        tied = found(behaving, model)
        assert (tied["outcome"], tied["grade"]) == ("passed", "warn")
        assert "int64 outputs are exact, but the floats that decide these tie" in tied["reason"]
    assert clear["outcome"] == "failed"
    assert clear["reason"].endswith("by up to 1; int64 outputs are exact")


def test_a_model_that_does_not_run_in_float64_is_judged_all_the_same(behaving: Project):
    right, wrong = found(behaving, "narrow"), found(behaving, "narrow_wrong")
    assert (right["outcome"], right["grade"]) == ("passed", "warn")
    assert "reference: does not run in float64 (RuntimeError: expected m1 and m2" in right["reason"]
    assert wrong["outcome"] == "failed"
    assert "noise floors, allowed 8" in wrong["reason"]


def test_a_healthy_model_of_large_values_passes_where_fixed_thresholds_fail(behaving: Project):
    floor, fixed = found(behaving, "large"), found(behaving, "large_fixed")
    assert (floor["outcome"], floor["grade"]) == ("passed", "pass")
    assert fixed["outcome"] == "failed"
    assert "pass is at most 1e-05, fail beyond 0.0001" in fixed["reason"]
