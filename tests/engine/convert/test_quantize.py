"""Precisions: each builds, loads and is right; each option has its effect, or an error of use."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, numpy_helper

from pytest_onnxcheck import machine
from pytest_onnxcheck.engine.artefacts.checker import check_file
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.checks.structure import measure as measure_structure
from pytest_onnxcheck.engine.checks.structure import measure_model
from pytest_onnxcheck.engine.convert import quantize as quantize_module
from pytest_onnxcheck.engine.convert.prepare import prepared
from pytest_onnxcheck.engine.convert.quantize import quantize, resolved_options
from pytest_onnxcheck.engine.inputs.calibration import CalibrationData
from pytest_onnxcheck.engine.inputs.cases import example
from pytest_onnxcheck.engine.runtime.evaluator import reference_evaluator
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.errors import ExportError, QuantizeError, Unsupported
from pytest_onnxcheck.manifest import load_manifest, sections
from pytest_onnxcheck.manifest.targets import CPU
from pytest_onnxcheck.measurement import CalibrationMeasurement

NETS = """
import torch
import torch.nn.functional as F
from torch import nn


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16),
    )


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(48)
        self.query, self.key, self.value = nn.Linear(48, 48), nn.Linear(48, 48), nn.Linear(48, 48)
        self.up, self.down = nn.Linear(48, 96), nn.Linear(96, 48)

    def forward(self, x):
        h = self.norm(x)
        weights = torch.softmax(self.query(h) @ self.key(h).transpose(-1, -2) / 7, -1)
        x = x + weights @ self.value(h)
        return x + self.down(F.gelu(self.up(x)))


class Wide(nn.Module):
    "Beyond float16, not beyond bfloat16: a weight, and a constant of the graph."

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        nn.init.constant_(self.linear.bias, 1e6)

    def forward(self, x):
        return torch.where(x > 0, self.linear(x), torch.full_like(x, -1e9))


class Fork(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        y = torch.relu(x)
        return self.left(y) + self.right(y)


class Attend(nn.Module):
    "At opset 23 the product is one Attention, ONNX's own."

    def __init__(self):
        super().__init__()
        self.query, self.last = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        heads = self.query(x).reshape(x.shape[0], 6, 2, 8).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(heads, heads, heads)
        return self.last(mixed.transpose(1, 2).reshape(x.shape[0], 6, 16))


class CastsBack(nn.Module):
    "Two outputs, of which one is float32 whatever the weights are."

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        y = self.linear(x)
        return y, torch.softmax(y.float(), -1)


class InFloat32(nn.Module):
    def forward(self, x):
        return x @ torch.eye(8)


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
"""

MANIFEST = """
schema = 1
[defaults]
exporters = ["torchscript", "dynamo"]
opsets = [20]
precisions = ["fp32", "fp16", "bf16", "half", "int8-dynamic", "int8-static", "int4-weight"]

[models.convolutional]
factory = "nets_quantize.py:convolutional"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 1, 12, 12]
outputs.y.shape = ["batch", 16]

[models.block]
factory = "nets_quantize.py:Block"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 5, 48]
outputs.y.shape = ["batch", 5, 48]

[models.wide]
factory = "nets_quantize.py:Wide"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]

[models.fork]
factory = "nets_quantize.py:Fork"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]

[models.attend]
factory = "nets_quantize.py:Attend"
opsets = [23]
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 6, 16]
outputs.y.shape = ["batch", 6, 16]

[models.casts_back]
factory = "nets_quantize.py:CastsBack"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]
outputs.shares.shape = ["batch", 8]

[models.in_float32]
factory = "nets_quantize.py:InFloat32"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]

[models.mlp]
factory = "nets_quantize.py:mlp"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]

[models.early]
factory = "nets_quantize.py:mlp"
opsets = [12]
exporters = ["torchscript"]
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]
"""


class Made:
    """An artefact, and what belongs to it."""

    def __init__(self, reference, variant, artefact):
        self.reference, self.variant, self.artefact = reference, variant, artefact
        self.model = onnx.shape_inference.infer_shapes(onnx.load(artefact.path))
        self.graph = self.model.graph
        self.operators = {node.op_type for node in self.graph.node}
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}

    def nodes(self, operator):
        return [node for node in self.graph.node if node.op_type == operator]

    def type_of(self, name):
        """ONNX's name of the type of a value."""
        values = (*self.graph.input, *self.graph.output, *self.graph.value_info)
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        types |= {name: tensor.data_type for name, tensor in self.tensors.items()}
        return TensorProto.DataType.Name(types[name])

    def constants(self, ending, *types):
        """The weights whose name ends so, of these types."""
        return [
            numpy_helper.to_array(tensor)
            for name, tensor in self.tensors.items()
            if name.endswith(ending)
            and (not types or TensorProto.DataType.Name(tensor.data_type) in types)
        ]

    def quantized(self):
        """Weights and their scales, as the nodes read them: tools differ in how they name them."""
        readers = {name: node for node in self.graph.node for name in node.input}
        made = {name: node for node in self.graph.node for name in node.output}
        for node in self.nodes("DequantizeLinear"):
            weight, scale = (self.tensors.get(name) for name in node.input[:2])
            if weight is not None and len(weight.dims) > 1:  # else an activation, or a bias
                yield numpy_helper.to_array(weight), numpy_helper.to_array(scale)
        for node in self.nodes("MatMulInteger"):
            product = readers[made[node.input[0]].output[1]]  # of the activation's scale
            (scale,) = (self.tensors[name] for name in product.input if name in self.tensors)
            weight = self.tensors[node.input[1]]
            yield numpy_helper.to_array(weight), numpy_helper.to_array(scale)

    def pair(self):
        """PyTorch's output on the example, and the artefact's."""
        inputs = example(self.reference)
        (expected,) = self.reference.run(inputs)
        (found,) = open_session(self.artefact, CPU).run(inputs)
        return expected, found

    def loss(self):
        """The relative root mean square error on the example."""
        expected, found = self.pair()
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("nets_quantize")
    (root / "nets_quantize.py").write_text(NETS, encoding="utf-8")
    (root / "models.toml").write_text(MANIFEST, encoding="utf-8")
    return load_manifest(root / "models.toml").models, Builds(root / "artefacts")


@pytest.fixture(scope="module")
def make(project):
    """Builds `NET-EXPORTER` in a precision with options."""

    def make(name, precision, **options):
        models, builds = project
        net, _, exporter = name.partition("-")
        exporter = exporter or "torchscript"
        model = models[net]
        (variant,) = [
            v for v in model.variants if (v.exporter, v.precision) == (exporter, precision)
        ]
        quantization = variant.quantization.model_copy(update=options)
        variant = dataclasses.replace(variant, quantization=quantization)
        reference = builds.reference(model)
        return Made(reference, variant, builds.artefact(reference, variant))

    return make


@pytest.fixture
def make_from(project, tmp_path):
    """Builds int8-static of the torchscript mlp from calibration batches given here."""

    def make_from(batches, **options):
        models, builds = project
        model = models["mlp"]
        (variant,) = [v for v in model.variants if v.name == "torchscript-op20-int8-static"]
        variant = dataclasses.replace(
            variant, quantization=variant.quantization.model_copy(update=options)
        )
        reference = builds.reference(model)
        source = builds.float_artefact(reference, variant).path
        measured = CalibrationMeasurement("this test", len(batches), "0" * 64)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx"
        quantize(reference, variant, source, path, CalibrationData(batches, measured))
        return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}

    return make_from


NAMES = [
    f"{net}-{exporter}"
    for net in ("convolutional", "block")
    for exporter in ("torchscript", "dynamo")
]
#: precision -> largest relative error; float32 itself is at 1e-7
ALLOWED = {
    "fp16": 2e-3,
    "half": 2e-3,
    "int8-dynamic": 0.05,
    "int8-static": 0.1,
    "int4-weight": 0.15,
}


@pytest.mark.parametrize("precision", ALLOWED)
@pytest.mark.parametrize("name", NAMES)
def test_every_precision_is_a_valid_file_that_loads_and_is_right(make, name, precision):
    made = make(name, precision)
    assert 1e-6 < made.loss() < ALLOWED[precision]
    checked = check_file(made.artefact)
    assert (checked.checker_error, checked.inference_error, checked.unsorted) == (None, None, False)


@pytest.mark.parametrize("keep_io_types", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_bf16_is_a_valid_file_and_as_close_as_pytorchs_own_bfloat16(make, name, keep_io_types):
    made = make(name, "bf16", keep_io_types=keep_io_types)
    checked = check_file(made.artefact)
    assert (checked.checker_error, checked.inference_error, checked.unsorted) == (None, None, False)
    held = {made.type_of(name) for name, t in made.tensors.items() if len(t.dims) > 1}
    assert held == {"BFLOAT16"}
    inputs = example(made.reference)
    (exact,) = made.reference.run(inputs)
    module = made.reference.module.to(torch.bfloat16)
    try:
        own = module(torch.tensor(inputs["x"]).bfloat16()).float().detach().numpy()
    finally:
        module.float()
    fed = inputs["x"]
    if not keep_io_types:
        fed = numpy_helper.to_array(onnx.helper.make_tensor("x", 16, fed.shape, fed.ravel()))
    (found,) = reference_evaluator(str(made.artefact.path)).run(None, {"x": fed})
    assert found.dtype.name == ("float32" if keep_io_types else "bfloat16")
    found = found.astype(np.float32)

    def error(array):
        return np.linalg.norm(array - exact) / np.linalg.norm(exact)

    assert 1e-3 < error(found) < 2 * error(own) < 0.05


def test_bf16_does_not_load_on_the_cpu_which_is_told_in_onnx_runtimes_words(make):
    made = make("block", "bf16")
    with pytest.raises(Unsupported) as caught:
        open_session(made.artefact, CPU)
    assert str(caught.value).startswith(
        "bf16 does not load on CPUExecutionProvider: Could not find an implementation for MatMul"
    )
    assert len(str(caught.value)) < 300


# 16 bits


def test_values_beyond_float16_are_kept_by_bf16(make):
    made = make("wide", "bf16")
    x = example(made.reference)["x"]
    (found,) = reference_evaluator(str(made.artefact.path)).run(None, {"x": x})
    (expected,) = made.reference.run({"x": x})
    assert expected.max() > 9e5
    assert expected.min() < -9e8
    np.testing.assert_allclose(found, expected, rtol=2.0**-7)


@pytest.mark.parametrize(("precision", "kind"), [("fp16", "FLOAT16"), ("bf16", "BFLOAT16")])
def test_inputs_and_outputs_keep_their_types_or_not(make, precision, kind):
    kept = make("mlp", precision)
    assert (kept.type_of("x"), kept.type_of("y")) == ("FLOAT", "FLOAT")
    cast = make("mlp", precision, keep_io_types=False)
    assert (cast.type_of("x"), cast.type_of("y")) == (kind, kind)
    measured = measure_structure(cast.artefact, cast.reference, cast.variant)
    assert [spec.dtype for spec in measured.inputs] == [kind.lower()]
    assert [spec.dtype for spec in measured.expected_inputs] == [kind.lower()]
    assert [spec.dtype for spec in measured.expected_outputs] == [kind.lower()]


@pytest.mark.parametrize("options", [{"precision": "fp16", "keep_io_types": False}, {}])
def test_16_bit_inputs_and_outputs_are_cast_at_the_sessions_boundary(make, options):
    made = make("mlp", **{"precision": "half", **options})
    assert made.artefact.notes.narrowed == ("x", "y")
    session = open_session(made.artefact, CPU)
    assert session.inputs == {"x": "tensor(float16)"}
    (found,) = session.run(example(made.reference))
    assert found.dtype == np.float32
    assert 1e-6 < made.loss() < 2e-3
    (called,) = session.call(example(made.reference))()
    assert called.dtype == np.float16


@pytest.mark.parametrize(("precision", "kind"), [("fp16", "FLOAT16"), ("bf16", "BFLOAT16")])
def test_blocked_operators_and_excluded_nodes_stay_in_float32(make, precision, kind):
    made = make("mlp", precision)
    assert {made.type_of(gemm.input[1]) for gemm in made.nodes("Gemm")} == {kind}
    blocked = make("mlp", precision, op_block_list=("Gemm",))
    assert {blocked.type_of(gemm.input[1]) for gemm in blocked.nodes("Gemm")} == {"FLOAT"}
    assert blocked.type_of(blocked.nodes("Relu")[0].input[0]) == kind
    excluded = make("mlp", precision, exclude_nodes=("/0/*",))
    types = {gemm.name: excluded.type_of(gemm.input[1]) for gemm in excluded.nodes("Gemm")}
    assert types == {"/0/Gemm": "FLOAT", "/2/Gemm": kind}


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_value_that_two_blocked_nodes_read_is_cast_once(make, precision):
    made = make("fork", precision, op_block_list=("Gemm",))
    left, right = made.nodes("Gemm")
    assert made.type_of(left.input[0]) == made.type_of(right.input[0]) == "FLOAT"
    # before, ONNX Runtime's converter gives each reader a cast of its own
    recent = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 31)
    assert left.input[0] == right.input[0] or not recent
    checked = check_file(made.artefact)
    assert (checked.checker_error, checked.inference_error, checked.unsorted) == (None, None, False)


def test_operators_onnx_has_not_in_bfloat16_compute_in_float32_on_stored_bfloat16(make):
    made = make("convolutional", "bf16")  # Conv takes bfloat16 from opset 22 on
    conv = made.nodes("Conv")[0]
    assert made.type_of(conv.output[0]) == "FLOAT"
    (cast,) = [node for node in made.nodes("Cast") if node.output[0] == conv.input[1]]
    assert made.type_of(cast.input[0]) == "BFLOAT16"
    excluded = make("convolutional", "bf16", exclude_nodes=(conv.name,))
    assert excluded.type_of(conv.input[1]) == "FLOAT"
    assert conv.input[1] in excluded.tensors


def test_half_holds_the_casted_modules_weights(make):
    made = make("mlp-dynamo", "half")
    module = made.reference.module
    assert {p.dtype for p in module.parameters()} == {torch.float32}  # the reference stays itself
    (found,) = made.constants("0.weight", "FLOAT16")
    np.testing.assert_array_equal(found, module[0].weight.half().detach().numpy())


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
def test_an_output_that_a_module_in_half_casts_back_is_float32(make, exporter):
    made = make(f"casts_back-{exporter}", "half")
    assert (made.type_of("y"), made.type_of("shares")) == ("FLOAT16", "FLOAT")
    assert made.artefact.notes.narrowed == ("x", "y")
    measured = measure_structure(made.artefact, made.reference, made.variant)
    assert [spec.dtype for spec in measured.outputs] == ["float16", "float32"]
    assert [spec.dtype for spec in measured.expected_outputs] == ["float16", "float32"]
    inputs = example(made.reference)
    expected, found = made.reference.run(inputs), open_session(made.artefact, CPU).run(inputs)
    assert [array.dtype for array in found] == [np.float32, np.float32]
    np.testing.assert_allclose(found[1], expected[1], atol=2e-3)


def test_what_is_no_float_at_all_is_not_what_half_declares(make):
    made = make("mlp", "half")
    made.model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    measured = measure_model(made.model, made.reference, made.variant)
    assert [spec.dtype for spec in measured.outputs] == ["float64"]
    assert [spec.dtype for spec in measured.expected_outputs] == ["float16"]


# 8 bits


def test_dynamic_leaves_the_attention_that_is_onnxs_own_alone(make):
    made = make("attend-dynamo", "int8-dynamic")
    assert {"Attention", "MatMulInteger"} <= made.operators
    assert 1e-6 < made.loss() < 0.05
    assert check_file(made.artefact).checker_error is None
    with pytest.raises(QuantizeError, match="operators: 'Attention': ONNX Runtime does not quan"):
        make("attend-dynamo", "int8-dynamic", operators=("MatMul", "Attention"))


def test_dynamic_leaves_convolutions_alone_unless_they_are_asked_for(make):
    assert "ConvInteger" not in make("convolutional", "int8-dynamic").operators
    asked = make("convolutional", "int8-dynamic", operators=("Conv",), weight_type="uint8")
    assert len(asked.nodes("ConvInteger")) == 2
    assert "MatMulInteger" not in asked.operators
    assert asked.loss() < 0.05


@pytest.mark.parametrize("precision", ["int8-dynamic", "int8-static"])
def test_scales_are_per_channel_or_per_tensor(make, precision):
    def sizes(**options):
        return sorted(scale.size for _, scale in make("mlp", precision, **options).quantized())

    assert sizes() == [8, 16]
    assert sizes(per_channel=False) == [1, 1]


@pytest.mark.parametrize("precision", ["int8-dynamic", "int8-static"])
def test_weights_have_the_type_asked_for_in_8_or_7_bits(make, precision):
    def quantized(**options):
        return [weight for weight, _ in make("mlp", precision, **options).quantized()]

    eight, seven = quantized(reduce_range=False), quantized(reduce_range=True)
    assert {w.dtype.name for w in (*eight, *seven)} == {"int8"}
    assert max(np.abs(w.astype(int)).max() for w in eight) == 127
    assert max(np.abs(w.astype(int)).max() for w in seven) == 64
    assert {w.dtype.name for w in quantized(weight_type="uint8")} == {"uint8"}


def test_activations_have_the_type_asked_for_and_symmetric_ones_zero_point_0(make):
    def zero_points(**options):
        made = make("mlp", "int8-static", **options)
        points = {name: made.tensors[name] for name in made.tensors if "zero_point" in name}
        return {n: numpy_helper.to_array(t) for n, t in points.items() if "weight" not in n}

    usual = zero_points()
    assert usual["x_zero_point"].dtype == np.uint8
    assert usual["x_zero_point"] != 128
    signed = zero_points(activation_type="int8", symmetric=True)
    assert signed["x_zero_point"].dtype == np.int8
    assert {int(signed[name]) for name in ("x_zero_point", "y_zero_point")} == {0}


@pytest.mark.parametrize("precision", ["int8-dynamic", "int8-static"])
def test_an_excluded_node_stays_in_float(make, precision):
    assert len(list(make("mlp", precision).quantized())) == 2
    excluded = make("mlp", precision, exclude_nodes=("/0/*",))
    assert len(list(excluded.quantized())) == 1
    (node,) = (
        node
        for node in (*excluded.nodes("MatMul"), *excluded.nodes("Gemm"))
        if node.input[1] in excluded.tensors
    )
    assert excluded.type_of(node.input[1]) == "FLOAT"


def test_only_the_operators_asked_for_are_quantized(make):
    made = make("convolutional", "int8-static", operators=("Conv",))
    dequantized = {node.output[0] for node in made.nodes("DequantizeLinear")}
    assert all(set(conv.input) <= dequantized for conv in made.nodes("Conv"))
    assert not any(dequantized.intersection(gemm.input[1:]) for gemm in made.nodes("Gemm"))


def batches(*values):
    return [{"x": np.linspace(-1, value, 8, dtype=np.float32)[None]} for value in values]


def test_a_percentile_leaves_an_outlier_out_that_minmax_takes_in(make_from):
    data = [{"x": np.random.default_rng(0).uniform(-1, 1, (200, 8)).astype(np.float32)}]
    data[0]["x"][0, 0] = 100.0
    scale = {
        method: float(make_from(data, method=method, percentile=99.0)["x_scale"])
        for method in ("minmax", "percentile", "entropy")
    }
    assert scale["minmax"] == pytest.approx(101 / 255, rel=1e-3)
    assert scale["percentile"] < 0.05 * scale["minmax"]
    assert 0.02 * scale["minmax"] < scale["entropy"] < 0.5 * scale["minmax"]
    (wide,) = [make_from(data, method="percentile", percentile=100.0)["x_scale"]]
    assert float(wide) == pytest.approx(scale["minmax"], rel=0.01)


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_batches_of_different_shapes_are_an_error_that_says_what_to_do(make_from, method):
    data = [{"x": np.ones((rows, 8), np.float32)} for rows in (2, 3)]
    with pytest.raises(QuantizeError) as caught:
        make_from(data, method=method)
    assert str(caught.value) == (
        f'mlp: int8-static: method = "{method}" needs calibration batches of one shape: ONNX '
        "Runtime stacks them to count their values, and input 'x' comes in [2, 8] and [3, 8]. "
        'Give batches of one size, or use method = "minmax"'
    )
    assert make_from(data, method="minmax")


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_ranges_of_zero_do_not_break_the_tool(make_from, method):
    weights = make_from([{"x": np.zeros((2, 8), np.float32)}] * 2, method=method)
    assert all(np.isfinite(array).all() for array in weights.values())


# 4 bits


def test_int4_scales_follow_the_block_size_and_zero_points_the_symmetry(make):
    made = make("block", "int4-weight")
    assert len(made.nodes("MatMulNBits")) == 5
    assert {scales.size for scales in made.constants("scales")} == {48 * 2, 96 * 2, 48 * 3}
    assert not made.constants("zero_points")
    small = make("block", "int4-weight", block_size=16, symmetric=False, accuracy_level=4)
    assert {scales.size for scales in small.constants("scales")} == {48 * 3, 96 * 3, 48 * 6}
    assert len(small.constants("zero_points")) == 5
    attributes = {a.name: a.i for a in small.nodes("MatMulNBits")[0].attribute}
    assert (attributes["block_size"], attributes["accuracy_level"]) == (16, 4)
    assert small.loss() < 0.15


def test_int4_takes_linear_layers_that_were_exported_as_gemm(make):
    assert "Gemm" in make("mlp", "fp32").operators
    made = make("mlp", "int4-weight")
    assert len(made.nodes("MatMulNBits")) == 2
    assert "Gemm" not in made.operators
    excluded = make("mlp", "int4-weight", exclude_nodes=("/0/Gemm",))
    assert len(excluded.nodes("MatMulNBits")) == 1


# options that do not fit, and how they are told


@pytest.mark.parametrize(
    "precision", ["fp16", "bf16", "int8-dynamic", "int8-static", "int4-weight"]
)
def test_a_pattern_that_matches_no_node_is_told_with_those_that_are_close(make, precision):
    with pytest.raises(QuantizeError) as caught:
        make("mlp", precision, exclude_nodes=("/0/Gem",))
    text = str(caught.value)
    assert text.startswith(f"mlp: {precision}: exclude_nodes: '/0/Gem' matches no node; did you ")
    assert "did you mean '/0/Gemm" in text
    assert "named nodes are those of " in text
    assert "?." not in text
    assert "/1/Relu" in text  # few enough to be listed


@pytest.mark.parametrize(
    ("precision", "operator", "problem"),
    [
        ("int8-dynamic", "Gemm", "ONNX Runtime does not quantize it"),
        ("int8-dynamic", "LSTM", "the graph has none"),
        ("int8-static", "Erf", "ONNX Runtime does not quantize it"),
        ("int8-static", "Conv", "the graph has none"),
        ("int4-weight", "Conv", "ONNX Runtime does not quantize it"),
    ],
)
def test_operators_that_cannot_be_quantized_are_told_with_those_that_can(
    make, precision, operator, problem
):
    with pytest.raises(QuantizeError) as caught:
        make("mlp", precision, operators=(operator,))
    text = str(caught.value)
    assert text.startswith(f"mlp: {precision}: operators: {operator!r}: {problem}")
    assert "Supported: " in text
    own = "Gemm, Relu" if precision == "int8-static" else "MatMul"
    assert text.endswith(f"In the graph, of these: {own}")


def test_a_blocked_operator_that_nobody_knows_is_told(make):
    with pytest.raises(QuantizeError, match=r"op_block_list: there is no operator 'Softmx'"):
        make("block", "fp16", op_block_list=("Softmx",))
    assert make("mlp", "fp16", op_block_list=("Softmax",))  # it may stand in the defaults


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("key", ["{}", "*-{}"])
def test_a_list_of_the_models_own_that_blocks_nothing_is_told(project, precision, key):
    models, builds = project

    def built(blocked, own):
        options = sections.Quantization(op_block_list=blocked)
        key_ = key.format(precision)
        model = dataclasses.replace(models["mlp"], quantization={key_: options} if own else {})
        variant = model.variant("torchscript", 20, precision)
        merged = variant.quantization.model_copy(update={"op_block_list": blocked})
        reference = builds.reference(model)
        return builds.artefact(reference, dataclasses.replace(variant, quantization=merged))

    with pytest.raises(QuantizeError) as caught:
        built(("Conv", "MatMul"), own=True)
    assert str(caught.value) == (
        f"mlp: {precision}: op_block_list: the graph has no Conv and no MatMul: nothing is left "
        "in float32. It has Gemm, Relu"
    )
    assert built(("MatMul", "Gemm"), own=True)  # an exporter has the one, another the other
    assert built(("Conv", "Softmax"), own=False)  # of [defaults]


@pytest.mark.parametrize("precision", ["fp16", "int8-dynamic", "half"])
def test_what_is_too_large_for_the_tools_is_told(project, make, monkeypatch, tmp_path, precision):
    models, builds = project
    size = make("mlp", "fp32").artefact.size_bytes
    variant = models["mlp"].variant("torchscript", 20, precision)
    reference = builds.reference(models["mlp"])
    source = builds.float_artefact(reference, variant).path
    monkeypatch.setattr(quantize_module, "MAX_INLINE_BYTES", size - 1)
    if precision == "half":
        assert quantize(reference, variant, source, tmp_path / "made.onnx")
        return
    with pytest.raises(QuantizeError, match=f"mlp: {precision}: the fp32 artefact has 0.00 GB"):
        quantize(reference, variant, source, tmp_path / "made.onnx")
    monkeypatch.setattr(quantize_module, "MAX_INLINE_BYTES", size)
    assert quantize(reference, variant, source, tmp_path / "made.onnx")


def test_bf16_before_opset_13_is_told(project):
    models, builds = project
    reference = builds.reference(models["early"])
    variant = models["early"].variant("torchscript", 12, "bf16")
    with pytest.raises(QuantizeError, match=r"casts to bfloat16 from opset 13 on, and .* is of 12"):
        builds.artefact(reference, variant)


def test_what_the_tool_says_is_told_in_one_line(make):
    with pytest.raises(QuantizeError) as caught:
        make("mlp", "int8-static", activation_type="int8", weight_type="uint8")
    assert str(caught.value).startswith("mlp: int8-static of ")
    assert "failed: ValueError: ONNXRuntime quantization doesn't support" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_does_not_run_in_float16_is_an_export_error(make):
    with pytest.raises(ExportError, match="torchscript export of the module in float16 at opset"):
        make("in_float32", "half")


# the options that depend on what the artefact is for


@pytest.mark.parametrize(
    ("cpus", "reduced"),
    [
        (("x86-vnni", "x86-avx2", "arm64"), True),
        (("x86-avx2",), True),
        (("x86-vnni", "arm64"), False),
    ],
)
@pytest.mark.parametrize("flags", ["avx2", "avx512_vnni"])
def test_reduce_range_follows_the_manifests_cpus_and_not_this_one(
    project, monkeypatch, tmp_path, cpus, reduced, flags
):
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n", encoding="utf-8")
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    variant = project[0]["mlp"].variant("torchscript", 20, "int8-dynamic")
    variant = dataclasses.replace(variant, cpus=cpus)
    assert resolved_options(variant)["reduce_range"] is reduced
    given = variant.quantization.model_copy(update={"reduce_range": not reduced})
    variant = dataclasses.replace(variant, quantization=given)
    assert resolved_options(variant)["reduce_range"] is not reduced


def test_resolved_options_are_those_the_precision_has(project, make):
    variant = project[0]["mlp"].variant("torchscript", 20, "int4-weight")
    assert resolved_options(variant) == {
        "accuracy_level": 0,
        "block_size": 32,
        "exclude_nodes": [],
        "operators": ["MatMul"],
        "symmetric": True,
    }
    assert make("mlp", "int4-weight").artefact.notes.options == resolved_options(variant)
    assert resolved_options(project[0]["mlp"].variant("torchscript", 20, "half")) == {}


def test_a_prepared_file_has_no_gemm_when_asked(make):
    with prepared(make("mlp", "fp32").artefact.path, without_gemm=True) as path:
        names = [node.name for node in onnx.load(path).graph.node]
    assert "/0/Gemm_MatMul" in names
    assert not path.exists()
