"""Coverage: multiply-accumulates as PyTorch counts them, and which of them carry a precision."""

import dataclasses
import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.checks.quantization import measure
from pytest_onnxcheck.engine.graph.coverage import InferredGraph
from pytest_onnxcheck.engine.graph.coverage import coverage as coverage_of
from pytest_onnxcheck.engine.graph.macs import multiply_accumulates
from pytest_onnxcheck.engine.graph.shapes import inferred
from pytest_onnxcheck.engine.inputs.cases import example
from pytest_onnxcheck.manifest import load_manifest

NETS = """
import torch
from torch import nn


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=4),
        nn.ReLU(), nn.ConvTranspose2d(8, 6, 3, stride=2), nn.Flatten(),
        nn.Linear(6 * 9 * 9, 16),
    )


def embedding():
    return nn.Sequential(nn.Embedding(200, 32), nn.Tanh())


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv, self.out = nn.Linear(48, 3 * 48), nn.Linear(48, 48)

    def forward(self, x):
        batch, steps = x.shape[:2]
        q, k, v = self.qkv(x).view(batch, steps, 3, 4, 12).permute(2, 0, 3, 1, 4)
        attended = torch.softmax(q @ k.transpose(-1, -2), -1) @ v
        return self.out(attended.transpose(1, 2).reshape(batch, steps, 48))


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.lstm = nn.LSTM(8, 16, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(32, 16, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.gru(self.lstm(self.embedding(x))[0])[0])
"""

MANIFEST = """
schema = 1
[defaults]
exporters = ["torchscript"]
opsets = [17]
precisions = ["fp32", "fp16", "bf16", "half", "int8-dynamic", "int8-static", "int4-weight"]

[models.convolutional]
factory = "nets_coverage.py:convolutional"
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 2, 12, 12]
outputs.y.shape = ["batch", 16]

[models.attention]
factory = "nets_coverage.py:Attention"
dims = { batch = [1, 2], steps = [5] }
inputs.x.shape = ["batch", "steps", 48]
outputs.y.shape = ["batch", "steps", 48]

[models.embedding]
factory = "nets_coverage.py:embedding"
dims = { batch = [1, 2] }
inputs.x = { shape = ["batch", 6], dtype = "int64", range = [0, 199] }
outputs.y.shape = ["batch", 6, 32]

[models.tagger]
factory = "nets_coverage.py:Tagger"
dims = { batch = [2], steps = [1, 7] }
inputs.x = { shape = ["batch", "steps"], dtype = "int64", range = [0, 19] }
outputs.y.shape = ["batch", "steps", 4]
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Gives reference, variant, fp32 artefact and artefact of a model in a precision."""
    root = tmp_path_factory.mktemp("coverage")
    (root / "nets_coverage.py").write_text(NETS)
    (root / "models.toml").write_text(MANIFEST)
    models = load_manifest(root / "models.toml").models
    builds = Builds(root / "artefacts")

    def make(name, precision, **options):
        reference = builds.reference(models[name])
        variant = models[name].variant("torchscript", 17, precision)
        quantization = variant.quantization.model_copy(update=options)
        variant = dataclasses.replace(variant, quantization=quantization)
        built = builds.artefact(reference, variant)
        return reference, variant, builds.float_artefact(reference, variant), built

    return make


@pytest.fixture(scope="module")
def coverage(made):
    def find(name, precision, **options):
        reference, variant, float_artefact, artefact = made(name, precision, **options)
        return measure(artefact, float_artefact, reference, variant).coverage

    return find


def total(path, shapes):
    graph, known, _ = inferred(path, shapes)
    counts = [count for _, count in multiply_accumulates(graph, known)]
    assert None not in counts
    return sum(counts)


def shapes_of(arrays):
    return {name: array.shape for name, array in arrays.items()}


# how much is computed


@pytest.mark.parametrize("name", ["convolutional", "attention"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8-dynamic", "int8-static"])
def test_multiply_accumulates_are_half_the_operations_pytorch_counts(made, name, precision):
    reference, _, _, artefact = made(name, precision)
    arrays = example(reference)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        reference.module(torch.from_numpy(arrays["x"]))
    assert total(artefact.path, shapes_of(arrays)) == counter.get_total_flops() / 2


@pytest.mark.parametrize("precision", ["fp32", "int8-dynamic"])
def test_recurrences_count_every_gate_step_and_direction(made, precision):
    reference, _, _, artefact = made("tagger", precision)
    rows = 2 * 7
    lstm = 2 * 4 * 16 * (8 + 16) + 2 * 4 * 16 * (32 + 16)
    gru = 3 * 16 * (32 + 16)
    counted = total(artefact.path, shapes_of(example(reference)))
    assert counted == rows * (lstm + gru + 16 * 4)


def save(path, nodes, weights, shape, *, opset=20):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def counted(path, shape):
    graph, known, _ = inferred(path, {"x": shape})
    return [count for _, count in multiply_accumulates(graph, known)]


def test_einsum_counts_every_combination_of_its_indices(tmp_path):
    node = helper.make_node("Einsum", ["x", "w"], ["y"], equation="bij, jk -> bik")
    path = save(tmp_path / "e.onnx", [node], {"w": np.ones((4, 5), "f4")}, ["b", 3, 4])
    assert counted(path, (2, 3, 4)) == [2 * 3 * 4 * 5]


def test_attention_counts_scores_and_values(tmp_path):
    node = helper.make_node("Attention", ["x", "x", "x"], ["y"], q_num_heads=2, kv_num_heads=2)
    path = save(tmp_path / "a.onnx", [node], {}, ["b", "t", 8], opset=23)
    assert counted(path, (3, 5, 8)) == [2 * 3 * 5 * 5 * 8]


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Einsum", ["x", "x"], ["y"], equation="...i,...i->..."),
        helper.make_node("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft"),
        helper.make_node("Attention", ["x", "w"], ["y"], domain="com.microsoft"),
    ],
)
def test_what_is_not_counted_is_said_and_not_left_out(tmp_path, node):
    path = save(tmp_path / "n.onnx", [node], {"w": np.ones((4, 12), "f4")}, ["b", 4, 4])
    assert counted(path, (2, 4, 4)) == [None]


def test_what_loops_is_not_counted(tmp_path):
    inner = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["z"])],
        "then",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
    )
    node = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    path = save(tmp_path / "if.onnx", [node], {"c": np.array(True)}, [4, 4])
    assert counted(path, (4, 4)) == [None, None]


def test_a_graph_that_makes_no_sense_counts_nothing(tmp_path):
    nodes = [
        helper.make_node("Nonsense", ["x"], ["z"]),
        helper.make_node("MatMul", ["z", "w"], ["y"]),
    ]
    path = save(tmp_path / "n.onnx", nodes, {"w": np.ones((4, 2), "f4")}, ["b", 4])
    assert counted(path, (2, 4)) == [None]


# how much of it carries a precision


@pytest.mark.parametrize("precision", ["fp16", "half", "int8-static"])
@pytest.mark.parametrize("name", ["convolutional", "attention"])
def test_a_precision_that_takes_all_covers_all(coverage, name, precision):
    found = coverage(name, precision)
    assert (found.weights, found.compute, found.uncounted) == (1.0, 1.0, 0)
    assert found.floating == ()


def test_convolutions_are_left_in_float_by_dynamic_quantization(coverage):
    found = coverage("convolutional", "int8-dynamic")
    linear = 486 * 16
    convolutions = [6 * 6 * 8 * 2 * 9, 4 * 4 * 8 * 2 * 9, 4 * 4 * 8 * 6 * 9]
    assert found.compute == linear / (linear + sum(convolutions))
    assert 0.9 < found.weights < 1  # most of them are the last layer's
    assert [name.split()[0] for name, _ in found.floating] == ["ConvTranspose", "Conv", "Conv"]
    shares = [share for _, share in found.floating]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) + found.compute == pytest.approx(1)


def test_products_of_activations_are_left_in_float_where_weights_are_quantized(coverage):
    products = 2 * 5 * 5 * 48
    linear = 5 * 48 * (3 * 48 + 48)
    for precision in ("int8-dynamic", "int4-weight"):
        found = coverage("attention", precision)
        assert found.compute == pytest.approx(linear / (linear + products))
        assert len(found.floating) == 2
        # biases stay in float; a packed weight counts by its elements and not by its bytes
        assert found.weights == 48 * 192 / (48 * 192 + 192)


def test_an_lstm_is_quantized_dynamically_and_a_gru_is_not(coverage):
    found = coverage("tagger", "int8-dynamic")
    assert found.uncounted == 0
    ((name, share),) = found.floating
    assert name.startswith("GRU '")
    assert share == pytest.approx(1 - found.compute)


def test_bfloat16_computes_in_it_only_where_onnx_has_the_operator(coverage):
    found = coverage("convolutional", "bf16")
    assert found.weights == 1.0
    assert 0 < found.compute < 1
    assert all(name.startswith("Conv") for name, _ in found.floating)


def test_excluded_nodes_are_told_with_their_share(made, coverage):
    *_, float_artefact, _ = made("convolutional", "fp32")
    first = next(n.name for n in onnx.load(float_artefact.path).graph.node if n.op_type == "Conv")
    for precision in ("fp16", "int8-static"):
        found = coverage("convolutional", precision, exclude_nodes=(first,))
        assert found.floating == ((f"Conv {first!r}", pytest.approx(1 - found.compute)),)
        assert found.weights < 1


def test_the_most_expensive_ten_are_told(tmp_path, made):
    nodes, weights = [], {}
    for index in range(12):
        weights[f"w{index}"] = np.ones((4, 4), "f4")
        source, target = f"v{index}" if index else "x", f"v{index + 1}" if index < 11 else "y"
        nodes.append(helper.make_node("MatMul", [source, f"w{index}"], [target], f"n{index}"))
    path = save(tmp_path / "deep.onnx", nodes, weights, ["batch", 4])
    found = measured(made, path, "int8-static", ["batch", 4]).coverage
    assert (found.weights, found.compute) == (0.0, 0.0)
    assert len(found.floating) == 10


def measured(made, path, precision, shape):
    """The measurement of a file with one input `x`."""
    reference, variant, *_ = made("convolutional", precision)
    reference = dataclasses.replace(reference, shapes={"x": tuple(shape)})
    artefact = Artefact.given(path)
    return measure(artefact, artefact, reference, variant)


def dequantize(name, dtype):
    """A weight [4, 4] in a type, and its DequantizeLinear."""
    weights = {
        f"{name}_q": np.ones((4, 4), dtype),
        f"{name}_scale": np.float32(0.1),
        f"{name}_zero": dtype(0),
    }
    return helper.make_node("DequantizeLinear", [*weights], [name]), weights


def requantized(dtype):
    """The nodes that take `x` to `x_d` by way of a type."""
    weights = {"scale": np.float32(0.1), "zero": dtype(0)}
    nodes = [
        helper.make_node("QuantizeLinear", ["x", *weights], ["x_q"]),
        helper.make_node("DequantizeLinear", ["x_q", *weights], ["x_d"]),
    ]
    return nodes, weights


@pytest.mark.parametrize(
    ("kind", "share", "converted", "remaining"),
    [
        (np.int8, 1.0, {"MatMul": 1}, {}),
        (np.uint8, 1.0, {"MatMul": 1}, {}),
        (np.int16, 0.0, {}, {"MatMul": 1}),
    ],
)
def test_integers_of_16_bits_are_no_int8(tmp_path, made, kind, share, converted, remaining):
    node, weights = dequantize("w", kind)
    nodes, others = requantized(kind)
    nodes += [node, helper.make_node("MatMul", ["x_d", "w"], ["y"])]
    path = save(tmp_path / "q.onnx", nodes, weights | others, ["batch", 4], opset=21)
    found = measured(made, path, "int8-static", ["batch", 4])
    assert found.coverage.compute == share
    assert found.coverage.weights == (share or None)  # 16-bit integers are no weights it knows
    assert (found.converted_kinds, found.remaining) == (converted, remaining)


def test_a_product_is_quantized_when_both_of_its_operands_are(tmp_path, made):
    nodes, weights = requantized(np.uint8)
    for first, count in (("x_d", 1), ("x", 0)):
        product = helper.make_node("MatMul", [first, "x_d"], ["y"])
        path = save(tmp_path / "p.onnx", [*nodes, product], weights, [4, 4])
        found = measured(made, path, "int8-static", [4, 4])
        assert found.converted == count
        assert found.coverage.compute == count


def test_weights_in_constant_nodes_and_in_subgraphs_count(tmp_path, made):
    def constant(name, array):
        return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array))

    inner = helper.make_graph(
        [helper.make_node("MatMul", ["x", "inner"], ["z"])],
        "then",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ones((4, 10), "f4"), "inner")],
    )
    dequantized, weights = dequantize("w", np.int8)
    nodes = [
        dequantized,
        constant("float", np.ones((4, 10), "f4")),
        constant("number", np.float32(2)),
        constant("shape", np.int64([-1, 4])),
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("MatMul", ["a", "float"], ["b"]),
        helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner),
    ]
    weights["c"] = np.array(True)
    path = save(tmp_path / "c.onnx", nodes, weights, ["batch", 4])
    found = measured(made, path, "int8-static", ["batch", 4])
    assert found.coverage.weights == 16 / (16 + 40 + 2 * 40)
    assert found.remaining == {"MatMul": 4}


def test_float16_weights_in_constant_nodes_carry_it(tmp_path, made):
    weight = numpy_helper.from_array(np.ones((4, 4), np.float16))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    path = save(tmp_path / "h.onnx", nodes, {}, ["batch", 4])
    found = measured(made, path, "fp16", ["batch", 4])
    assert (found.coverage.weights, found.coverage.compute) == (1.0, 1.0)
    assert found.converted_kinds == {"float16 tensors": 1}


def test_only_onnx_runtimes_own_attention_holds_weights(tmp_path, made):
    for domain, remaining in (("com.microsoft", {"Attention": 1}), ("", {})):
        node = helper.make_node("Attention", ["x", "w", "w"], ["y"], domain=domain)
        path = save(tmp_path / "a.onnx", [node], {"w": np.ones((1, 2, 4, 4), "f4")}, [1, 2, 4, 4])
        assert measured(made, path, "int8-dynamic", [1, 2, 4, 4]).remaining == remaining


def test_an_embedding_is_quantized_by_its_table(made):
    reference, variant, float_artefact, artefact = made("embedding", "int8-dynamic")
    found = measure(artefact, float_artefact, reference, variant)
    assert found.converted_kinds == {"Gather": 1}
    assert (found.coverage.weights, found.coverage.compute) == (1.0, None)
    assert found.size_ratio < 0.4


def test_a_blocked_float16_covers_hardly_anything(coverage):
    found = coverage("attention", "fp16", op_block_list=("MatMul", "Gemm"))
    assert found.weights < 0.05
    assert found.compute == 0.0


# the rest of the measurement


@pytest.mark.parametrize(
    ("name", "precision", "kind"),
    [
        ("attention", "fp16", "float16 tensors"),
        ("attention", "bf16", "bfloat16 tensors"),
        ("attention", "half", "float16 tensors"),
        ("attention", "int8-dynamic", "MatMulInteger"),
        ("convolutional", "int8-static", "Conv"),
        ("attention", "int4-weight", "MatMulNBits"),
    ],
)
def test_what_carries_the_precision_is_counted(made, name, precision, kind):
    reference, variant, float_artefact, artefact = made(name, precision)
    found = measure(artefact, float_artefact, reference, variant)
    assert found.converted_kinds[kind] > 0
    assert found.converted == sum(found.converted_kinds.values())
    assert found.size_ratio == artefact.size_bytes / float_artefact.size_bytes
    values = InferredGraph.read(artefact.path, shapes_of(example(reference)))
    assert found.coverage == coverage_of(values, precision)
    assert not found.identical
    assert (found.calibration is not None) == (precision == "int8-static")
    assert found.checkpoint_bytes is None


@pytest.mark.parametrize("precision", ["int8-static", "int8-dynamic", "int4-weight"])
def test_a_float_artefact_carries_no_other_precision(made, precision):
    reference, variant, float_artefact, _ = made("convolutional", "fp32")
    variant = dataclasses.replace(variant, precision=precision)
    found = measure(float_artefact, float_artefact, reference, variant)
    assert found.converted == 0
    assert found.remaining == {"Conv": 2, "ConvTranspose": 1, "Gemm": 1}
    assert found.coverage.weights == found.coverage.compute == 0.0


def given(reference, variant, precisions):
    """Reference and variant of artefacts that were given for these precisions."""
    variants = tuple(dataclasses.replace(variant, precision=entry) for entry in precisions)
    model = dataclasses.replace(reference.model, variants=variants)
    return dataclasses.replace(reference, model=model)


def test_a_copy_of_the_fp32_artefact_is_recognised(made, tmp_path):
    reference, variant, float_artefact, _ = made("attention", "fp16")
    copied = tmp_path / "copy.onnx"
    shutil.copy(float_artefact.path, copied)
    variant = dataclasses.replace(variant, file=copied)
    copy = Artefact.given(copied)
    both = given(reference, variant, ["fp32", "fp16"])
    assert measure(copy, float_artefact, both, variant).identical
    assert measure(float_artefact, float_artefact, both, variant).identical  # one path for both
    alone = measure(copy, copy, given(reference, variant, ["fp16"]), variant)
    assert (alone.identical, alone.float_bytes, alone.size_ratio) == (False, None, None)


def test_the_checkpoint_is_weighed(made, tmp_path):
    reference, variant, float_artefact, artefact = made("attention", "fp16")
    checkpoint = tmp_path / "net.pt"
    torch.save(nn.Linear(2, 2).state_dict(), checkpoint)
    model = dataclasses.replace(reference.model, checkpoint=checkpoint)
    reference = dataclasses.replace(reference, model=model)
    found = measure(artefact, float_artefact, reference, variant)
    assert found.checkpoint_bytes == checkpoint.stat().st_size
