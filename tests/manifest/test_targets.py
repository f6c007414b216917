"""Targets: built in, declared, and given by a hook."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_onnxcheck.errors import ManifestError
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import BUILTIN_TARGETS, CPU, EVALUATOR, Target

MODEL = """
[models.net]
factory = "zoo:net"
inputs.x.shape = [1, 4]
outputs.y.shape = [1, 2]
"""


def loaded(folder, text="", targets=None):
    path = folder / "models.toml"
    path.write_text(f"schema = 1\n{text}\n{MODEL}", encoding="utf-8")
    manifest = load_manifest(path, targets=targets)
    manifest.check()
    return manifest.models["net"]


def test_what_is_built_in():
    assert CPU.opening() == {
        "provider": "CPUExecutionProvider",
        "provider_options": {},
        "session_options": {},
    }
    accelerated = [name for name, target in BUILTIN_TARGETS.items() if target.accelerated]
    assert accelerated == ["cuda", "tensorrt", "openvino"]
    # TF32 is off on ONNX Runtime's side; torch_device turns it off on torch's
    assert BUILTIN_TARGETS["cuda"].provider_options == {"use_tf32": 0}
    assert [BUILTIN_TARGETS[name].device for name in ("cpu", "cuda", "tensorrt")] == [
        *("cpu", "cuda", "cuda")
    ]


def test_a_table_adds_to_a_built_in_target(tmp_path):
    model = loaded(
        tmp_path,
        "[targets.cuda]\nprovider_options.device_id = 1\n"
        '[targets.cpu.session_options]\ngraph_optimization_level = "basic"\n',
    )
    cuda = model.target("cuda")
    assert cuda == Target(
        "cuda", "CUDAExecutionProvider", {"use_tf32": 0, "device_id": 1}, {}, "cuda:1"
    )
    assert model.target("cpu").session_options == {"graph_optimization_level": "basic"}
    assert model.target("cpu").key != CPU.key


def test_another_provider_takes_nothing_over(tmp_path):
    model = loaded(tmp_path, '[targets.cuda]\nprovider = "OpenVINOExecutionProvider"\n')
    assert model.target("cuda") == Target("cuda", "OpenVINOExecutionProvider")


def test_a_target_of_its_own(tmp_path):
    model = loaded(
        tmp_path,
        '[targets.exact]\nprovider = "ReferenceEvaluator"\n'
        '[targets.gpu1]\nprovider = "CUDAExecutionProvider"\ntorch_device = "cuda:1"\n'
        '[targets.trt]\nprovider = "TensorrtExecutionProvider"\n'
        '[defaults]\ntargets = ["exact", "gpu1"]',
    )
    assert model.targets == ("exact", "gpu1")
    assert not model.target("exact").accelerated
    assert model.target("exact").provider == EVALUATOR
    assert model.target("gpu1").device == "cuda:1"
    assert model.target("gpu1").provider_options == {"use_tf32": 0}  # by provider, not by name
    assert model.target("trt").provider_options == {}
    assert model.target("trt").device == "cuda"


def test_pytorch_is_timed_on_the_gpu_that_onnx_runtime_uses(tmp_path):
    model = loaded(
        tmp_path,
        "[targets.cuda]\nprovider_options = { device_id = 1 }\n"
        '[targets.npu]\nprovider = "QNNExecutionProvider"\nprovider_options = { device_id = 1 }',
    )
    assert model.target("cuda").device == "cuda:1"
    assert model.target("npu").device == "cpu"


def test_a_run_is_captured_as_a_graph_where_the_provider_can():
    assert BUILTIN_TARGETS["cuda"].graphed().provider_options == {
        "use_tf32": 0,
        "enable_cuda_graph": 1,
    }
    assert BUILTIN_TARGETS["tensorrt"].graphed().provider_options == {"trt_cuda_graph_enable": 1}
    assert BUILTIN_TARGETS["cpu"].graphed() == BUILTIN_TARGETS["cpu"]


def test_the_manifest_adds_to_what_a_hook_gives(tmp_path):
    given = {"npu": {"provider": "QNNExecutionProvider", "provider_options": {"a": 1, "b": 1}}}
    model = loaded(
        tmp_path, '[targets.npu.provider_options]\nb = 2\n[defaults]\ntargets = ["npu"]', given
    )
    assert model.target("npu").provider_options == {"a": 1, "b": 2}


def test_a_manifest_with_unknown_targets_in_its_defaults_still_tells_its_seed(tmp_path):
    # the record reads it without the hook of the project
    path = tmp_path / "models.toml"
    path.write_text(f'schema = 1\nseed = 7\n[defaults]\ntargets = ["npu"]\n{MODEL}')
    manifest = load_manifest(path)
    assert manifest.seed == 7
    with pytest.raises(ManifestError, match="'npu' is not one of"):
        manifest.check()


def test_a_target_in_another_environment_is_the_cpus_unless_it_says_otherwise(tmp_path):
    model = loaded(
        tmp_path,
        '[targets.old]\npython = ".venv/bin/python"\nenvironment = ["onnxruntime==1.20.1"]\n'
        '[targets.named]\npython = "python3.10"\nprovider = "OpenVINOExecutionProvider"\n'
        '[targets.openvino]\nenvironment = ["onnxruntime-openvino"]\n',
    )
    old, named, vino = (model.target(name) for name in ("old", "named", "openvino"))
    assert old.provider == CPU.provider
    assert old.python == str(tmp_path / ".venv/bin/python")
    assert old.environment == ("onnxruntime==1.20.1",)
    assert Path(old.kept) == tmp_path / ".onnxcheck" / ".environments"
    assert (named.python, named.accelerated) == ("python3.10", True)
    assert (vino.provider, vino.elsewhere) == ("OpenVINOExecutionProvider", True)
    assert not CPU.elsewhere
    assert old.key != CPU.key


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (
            'environment = ["--index-url=x"]',
            "expected a package as pip takes it, e.g. onnxruntime==1.20.1",
        ),
        ("environment = []", "environment"),
        (
            'provider = "ReferenceEvaluator"\npython = "python3"',
            "ReferenceEvaluator runs in this environment",
        ),
    ],
)
def test_what_makes_no_sense_in_another_environment_is_refused(tmp_path, table: str, told: str):
    with pytest.raises(ManifestError, match=told):
        loaded(tmp_path, f"[targets.there]\n{table}\n")
