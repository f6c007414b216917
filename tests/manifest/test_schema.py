"""The JSON Schema that editors use says what the loader says."""

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest

import pytest_onnxcheck
from pytest_onnxcheck.manifest import json_schema, load_manifest

PACKAGE = Path(pytest_onnxcheck.__file__).parent
REPOSITORY = Path(__file__).parents[2]
BAD = Path(__file__).parent / "bad"

FULL = """
#:schema ./models.schema.json
schema = 1
seed = 7

[targets.npu]
provider = "QNNExecutionProvider"
provider_options = { backend_type = "htp", vtcm_mb = 8 }
session_options = { "session.disable_prepacking" = "1", enable_mem_pattern = false }
torch_device = "cpu"
python = ".venv-old/bin/python"
environment = ["onnxruntime-qnn==1.24.1"]

[targets.older]
environment = ["onnxruntime==1.20.1"]

[targets.system]
python = "/usr/bin/python3"

[targets.page]
runtime = "onnxruntime-web"
browser = "chromium"

[targets.cpu.session_options]
graph_optimization_level = "basic"
intra_op_num_threads = 2

[defaults]
exporters = ["dynamo", "torchscript"]
opsets = [18, 20]
precisions = ["fp32", "fp16", "bf16", "half", "int8-dynamic", "int8-static", "int4-weight"]
targets = ["cpu", "cuda", "tensorrt", "openvino", "reference", "npu"]
required_targets = ["cpu"]
draws = 3
probe_seconds = 0.5
trust = true
prefix = "model."
marks = ["release"]
isolate = true
timeout = { "*" = 600, "opening a session" = 60.0, exporting = 900 }
memory_mb = 8000
operator_libraries = ["build/libmyops.so", "onnxruntime_extensions"]
depends = ["*.toml"]
translations."my::clip" = { dynamo = "ops.py:clip", torchscript = "ops.py:symbolic" }

[defaults.tolerance.fp16]
policy = "noise-floor"
safety = 16
min_mutation_score = 0.9

[defaults.tolerance.fp32]
policy = "fixed"
max_abs = [1e-5, 1e-4]
mean_abs = 1e-6
mse = "off"
max_rel = [1e-3]
rel_rms = 0.1
cosine = 1
rtol = 1e-3
atol = 0.0

[defaults.tolerance."*-int8-*"]
sqnr_db = [30, 20]
top1 = 0.99

[defaults.budget."*-int8-*"]
max_size_mb = 3
max_transferred_mb = 2.5
max_size_ratio = 0.3
min_speedup = 1.5
min_speedup_over_fp32 = 1
min_coverage = 0.9
max_regression = "10%"

[defaults.quantization.fp16]
op_block_list = ["Softmax"]
keep_io_types = false

[defaults.quantization.int8-static]
exclude_nodes = ["/head/*"]
operators = ["Conv", "MatMul"]
per_channel = false
weight_type = "uint8"
activation_type = "int8"
method = "percentile"
percentile = 99.99
reduce_range = true

[defaults.quantization."*-int4-weight"]
symmetric = false
block_size = 64
accuracy_level = 4

[defaults.latency]
seconds = 0.5
longest = 10
threads = 2
boundary = "device"
cuda_graph = true

[models.net]
cpus = ["x86-vnni", "arm64"]
factory = "zoo.py:net"
kwargs = { width = 8, names = ["a", "b"], nested = { on = true } }
checkpoint = "net.pt"
state_dict = "model.state"
prefix = "net."
config_key = "config"
trust = true
shapes = "zoo:shapes"
dims = { batch = [1, 2, 8], time = [50], height = { from = 32, to = 512, step = 32 } }
example = "example.npz"
arguments = { use_cache = false, sizes = [1, 2], "config.scale" = 0.5 }
containers = { features = "tuple", state = "zoo:State" }
seed = 3
baseline = { "*-int8-*" = "old.onnx" }

[models.net.inputs.x]
shape = ["batch", "time", 4]
dtype = "float32"
fill = "uniform"
range = [-1, 1.0]
nonfinite = true

[models.net.inputs.mean]
fill = "normal"
mean = 1
std = 0.5

[models.net.inputs.tokens]
shape = ["batch", "time"]
dtype = "int64"
range = [0, 99]

[models.net.inputs.attention_mask]
shape = ["batch", 1, "height", "time"]
fill = "mask"
masked = -inf
padding = "causal"
empty_rows = true

[models.net.inputs.flag]
shape = [1]
dtype = "bool"
fill = "constant"
value = 1

[models.net.inputs.image]
shape = ["batch", 3]
fill = "file"
file = "images.npz"
key = "images"

[models.net.inputs.feature]
shape = ["batch", 3]
path = "features.0"

[models.net.outputs.y]
shape = ["batch", 2]
range = [0, 1]
path = "logits"

[models.net.outputs.label]
shape = ["batch"]
dtype = "int64"

[models.net.budget.int8-static]
min_speedup = { cpu = 1.5, cuda = 2 }
min_speedup_over_fp32 = { cpu = 1.5 }
max_p95_ms = { cpu = 2.5 }
min_throughput = { cpu = 1000 }
max_load_s = 1
max_memory_mb = 100
max_cpu_fallback = { cuda = 0.1 }

[models.net.quantization."dynamo-*"]
exclude_nodes = []

[models.net.cases.recorded]
file = "recorded.npz"
outside_range = true

[models.net.cases.generated]
source = "zoo:generated"

[models.net.calibration]
folder = "calibration"
count = 64
batch = 8
seed = 1

[models.net.accuracy]
file = "test.npz"
labels = "digit"
metric = "f1"
average = "weighted"
axis = 1
output = "label"
count = 1000
batch = 16
max_drop = { fp32 = 0, int8-static = 0.005, "*-int4-weight" = 0.02 }
confidence = 0.99

[models.net.deploy]
onnxruntime = ">=1.18"
run = false

[models.net.release]
variant = "dynamo-op20-fp16"
name = "net"
version = "1.4.0"
registered_model = "detector"
alias = "candidate"

[models.net.latency]
dims = [{ batch = 1 }, { batch = 8, time = 50 }]

[[models.net.xfail]]
reason = "issue 12"
checks = ["equivalence"]
variants = ["*-fp16"]
targets = ["cuda"]

[[models.net.skip_probes]]
name = "normal x1000*"
reason = "a log of the largest is taken of it"

[[models.net.skip]]
reason = "too slow"

[models.given]
factory = "zoo:net"
onnx = "net.onnx"
accuracy = { source = "zoo:test", metric = "zoo:word_error_rate", max_drop = 0.1 }
inputs.x.shape = [1]
outputs.y.shape = [1]

[models.saved]
pretrained = "saved/bert"
kwargs = { attn_implementation = "eager" }
inputs.x.shape = [1]
outputs.y.shape = [1]

[models.both]
factory = "zoo:net"
onnx = { fp32 = "net.onnx", int8-static = "net.int8.onnx" }
inputs.x.shape = [1]
outputs.y.shape = [1]
"""


@pytest.fixture(scope="module")
def validator():
    return jsonschema.Draft202012Validator(json.loads(json_schema()))


def errors(validator, text):
    return [error.message for error in validator.iter_errors(tomllib.loads(text))]


def test_the_schema_is_valid_draft_2020_12():
    schema = json.loads(json_schema())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_shipped_file_is_the_schema():
    shipped = PACKAGE / "manifest" / "models.schema.json"
    # pydantic writes 1.0 or 1, by its version
    assert json.loads(shipped.read_text(encoding="utf-8")) == json.loads(json_schema())


def test_a_manifest_with_every_key_validates(tmp_path, validator):
    path = tmp_path / "models.toml"
    path.write_text(FULL, encoding="utf-8")
    load_manifest(path).check()
    assert errors(validator, FULL) == []


def test_the_full_example_has_every_key(validator):
    """A key that is added to the manifest must be added to the example above."""
    schema = validator.schema
    written = set()

    def visit(value):
        if isinstance(value, dict):
            written.update(value)
        for entry in value.values() if isinstance(value, dict) else value:
            if isinstance(entry, dict | list):
                visit(entry)

    visit(tomllib.loads(FULL))
    known = set(schema["properties"])
    for section in schema["$defs"].values():
        known |= set(section.get("properties", ()))
    assert known - written == set()


@pytest.mark.skipif(not (REPOSITORY / "models.toml").is_file(), reason="not in the repository")
def test_the_manifest_of_this_repository_validates(validator):
    path = REPOSITORY / "models.toml"
    load_manifest(path).check()
    assert errors(validator, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "name",
    [
        "accuracy_metric",
        "accuracy_values",
        "budget_values",
        "missing_key",
        "missing_schema",
        "model_is_no_table",
        "models_is_no_table",
        "no_models",
        "onnx_wrong_precision",
        "quantization_values",
        "range_of_one",
        "several_problems",
        "dims_range_values",
        "shape_word",
        "size_below_zero",
        "tolerance_three_bounds",
        "unknown_key",
        "unknown_key_nested",
        "unknown_top_level_key",
        "wrong_literal",
        "wrong_schema_version",
        "target_values",
        "wrong_target",
        "wrong_type",
        "xfail_without_reason",
    ],
)
def test_what_the_loader_refuses_for_its_form_the_schema_refuses_too(validator, name):
    assert errors(validator, (BAD / f"{name}.toml").read_text(encoding="utf-8"))


#: section and key -> values that editors must accept, and values that they must refuse
VALUES = {
    ("Accuracy", "metric"): (["f1", "zoo:metric"], ["f2", 1]),
    ("Accuracy", "max_drop"): ([0.005, 0, {"int8-static": 0.01}], [-1, True, {"fp16": -1}, "1"]),
    ("Budget", "min_speedup"): ([1.5, {"cuda": 2}], [0, {"cpu": 0}, "2"]),
    ("Budget", "min_speedup_over_fp32"): ([1, {"cpu": 1}], [0, {"cpu": 0}]),
    ("Budget", "max_cpu_fallback"): ([0, 1, {"cuda": 0.5}], [-1, 1.5, {"cuda": 2}, "0"]),
    ("Budget", "max_p95_ms"): ([2.5, {"cpu": 2}], [0, "2 ms"]),
    ("Budget", "max_memory_mb"): ([100, {"cuda": 1}], [0, {"cpu": -1}]),
    ("Budget", "min_coverage"): ([0.9, 1], [0, 90]),
    ("Budget", "max_regression"): (
        ["10%", "2.5 %", "100%", 0.1, 0.49],
        [0, 0.001, 0.5, 1, 10, "0.1", "ten", True],
    ),
    ("Input", "padding"): (["right", "left", "any", "causal"], ["both", True]),
    ("Input", "masked"): ([True, False, 0, 1], ["-inf"]),
    ("Quantization", "block_size"): ([16, 32, 64, 128, 256], [8, 48, "32"]),
    ("Quantization", "accuracy_level"): ([0, 4], [5, "int8"]),
    ("Quantization", "operators"): ([["MatMul"]], [[], "MatMul"]),
    ("Quantization", "percentile"): ([99.999, 100], [50, 101]),
}


#: where these sections stand, and what they need besides
PLACES = {
    "Accuracy": '[models.net.accuracy]\nfile = "a.npz"\n',
    "Budget": "[models.net.budget.int8-static]\n",
    "Input": '[models.net.inputs.m]\nfill = "mask"\nshape = [4, 4]\ndtype = "int64"\n',
    "Quantization": '[models.net.quantization."*"]\n',
}


@pytest.mark.parametrize(("section", "key"), VALUES)
def test_editors_and_the_loader_accept_the_same_values(tmp_path, validator, section, key):
    manifest = (
        'schema = 1\n[models.net]\nfactory = "zoo:net"\ninputs.x.shape = [1]\n'
        'outputs.y.shape = [1]\ntargets = ["cpu", "cuda"]\n'
        'precisions = ["fp16", "int8-static", "int4-weight"]\n'
        f'quantization.int8-static.method = "percentile"\n{PLACES[section]}'
    )
    path = tmp_path / "models.toml"
    accepted, refused = VALUES[section, key]
    for value, valid in [(value, True) for value in accepted] + [(v, False) for v in refused]:
        text = f"{manifest}{key} = {json.dumps(value).replace(': ', ' = ')}\n"
        path.write_text(text, encoding="utf-8")
        assert (errors(validator, text) == []) is valid, value
        assert (load_manifest(path).problems == ()) is valid, value


def test_every_key_is_described(validator):
    for name, section in validator.schema["$defs"].items():
        for key, value in section.get("properties", {}).items():
            assert value.get("description"), f"{name}.{key}"
