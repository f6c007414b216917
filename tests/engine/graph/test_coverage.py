"""Which weights and multiply-accumulates carry a precision."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from precision_nets import shapes_of
from small_models import save_nodes

from pytest_onnxcheck.engine.graph.coverage import InferredGraph, converted
from pytest_onnxcheck.engine.graph.coverage import coverage as coverage_of
from pytest_onnxcheck.engine.inputs.cases import example


@pytest.fixture(scope="module")
def coverage(made):
    def find(name, precision, **options):
        reference, _, _, artefact = made(name, precision, **options)
        values = InferredGraph.read(artefact.path, shapes_of(example(reference)))
        return coverage_of(values, precision)

    return find


def read(path, shape):
    """A graph with one input `x`."""
    return InferredGraph.read(path, {"x": tuple(shape)})


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


def test_the_most_expensive_ten_are_told(tmp_path):
    nodes, weights = [], {}
    for index in range(12):
        weights[f"w{index}"] = np.ones((4, 4), "f4")
        source, target = f"v{index}" if index else "x", f"v{index + 1}" if index < 11 else "y"
        nodes.append(helper.make_node("MatMul", [source, f"w{index}"], [target], f"n{index}"))
    path = save_nodes(tmp_path / "deep.onnx", nodes, weights, ["batch", 4])
    found = coverage_of(read(path, [2, 4]), "int8-static")
    assert (found.weights, found.compute) == (0.0, 0.0)
    assert len(found.floating) == 10


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
    ("kind", "share", "carrying", "remaining"),
    [
        (np.int8, 1.0, {"MatMul": 1}, {}),
        (np.uint8, 1.0, {"MatMul": 1}, {}),
        (np.int16, 0.0, {}, {"MatMul": 1}),
    ],
)
def test_integers_of_16_bits_are_no_int8(tmp_path, kind, share, carrying, remaining):
    node, weights = dequantize("w", kind)
    nodes, others = requantized(kind)
    nodes += [node, helper.make_node("MatMul", ["x_d", "w"], ["y"])]
    path = save_nodes(tmp_path / "q.onnx", nodes, weights | others, ["batch", 4], opset=21)
    values = read(path, [2, 4])
    found = coverage_of(values, "int8-static")
    assert found.compute == share
    assert found.weights == (share or None)  # 16-bit integers are no weights it knows
    assert converted(values, "int8-static") == (carrying, remaining)


def test_a_product_is_quantized_when_both_of_its_operands_are(tmp_path):
    nodes, weights = requantized(np.uint8)
    for first, count in (("x_d", 1), ("x", 0)):
        product = helper.make_node("MatMul", [first, "x_d"], ["y"])
        path = save_nodes(tmp_path / "p.onnx", [*nodes, product], weights, [4, 4])
        values = read(path, [4, 4])
        assert converted(values, "int8-static")[0].total() == count
        assert coverage_of(values, "int8-static").compute == count


def test_weights_in_constant_nodes_and_in_subgraphs_count(tmp_path):
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
    path = save_nodes(tmp_path / "c.onnx", nodes, weights, ["batch", 4])
    values = read(path, [2, 4])
    assert coverage_of(values, "int8-static").weights == 16 / (16 + 40 + 2 * 40)
    assert converted(values, "int8-static")[1] == {"MatMul": 4}


def test_float16_weights_in_constant_nodes_carry_it(tmp_path):
    weight = numpy_helper.from_array(np.ones((4, 4), np.float16))
    nodes = [
        helper.make_node("Constant", [], ["w"], value=weight),
        helper.make_node("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        helper.make_node("MatMul", ["h", "w"], ["m"]),
        helper.make_node("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    path = save_nodes(tmp_path / "h.onnx", nodes, {}, ["batch", 4])
    values = read(path, [2, 4])
    found = coverage_of(values, "fp16")
    assert (found.weights, found.compute) == (1.0, 1.0)
    assert converted(values, "fp16")[0] == {"float16 tensors": 1}


def test_only_onnx_runtimes_own_attention_holds_weights(tmp_path):
    for domain, remaining in (("com.microsoft", {"Attention": 1}), ("", {})):
        node = helper.make_node("Attention", ["x", "w", "w"], ["y"], domain=domain)
        path = save_nodes(
            tmp_path / "a.onnx", [node], {"w": np.ones((1, 2, 4, 4), "f4")}, [1, 2, 4, 4]
        )
        assert converted(read(path, [1, 2, 4, 4]), "int8-dynamic")[1] == remaining


def test_a_blocked_float16_covers_hardly_anything(coverage):
    found = coverage("attention", "fp16", op_block_list=("MatMul", "Gemm"))
    assert found.weights < 0.05
    assert found.compute == 0.0
