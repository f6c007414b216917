"""The 8-bit operators in numpy give what ONNX Runtime gives, with this machine's arithmetic."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from pytest_onnxcheck import machine
from pytest_onnxcheck.engine.runtime.integers import compute, weights
from pytest_onnxcheck.engine.runtime.products import Products
from pytest_onnxcheck.engine.runtime.values import plain_session

RANDOM = np.random.default_rng(7)


def bytes_of(*shape):
    return RANDOM.integers(0, 256, shape).astype(np.uint8)


def weight(*shape):
    return RANDOM.integers(-127, 128, shape).astype(np.int8)


def conv(channels, outputs, kernel, *, size, **attributes):
    groups = attributes.get("group", 1)
    inputs = {
        "x": bytes_of(2, channels, *size),
        "x_scale": np.float32(0.05),
        "x_zero": np.uint8(131),
        "w": weight(outputs, channels // groups, *kernel),
        "w_scale": (0.02 + 0.01 * RANDOM.random(outputs)).astype(np.float32),
        "w_zero": np.zeros(outputs, np.int8),
        "y_scale": np.float32(0.4 * (channels * np.prod(kernel)) ** 0.5),
        "y_zero": np.uint8(120),
        "b": RANDOM.integers(-9999, 9999, outputs).astype(np.int32),
    }
    return helper.make_node("QLinearConv", list(inputs), ["y"], **attributes), inputs


def gemm(rows, inner, columns, *, quantized, **attributes):
    inputs = {
        "x": bytes_of(*((inner, rows) if attributes.get("transA") else (rows, inner))),
        "x_scale": np.float32(0.05),
        "x_zero": np.uint8(97),
        "w": weight(*((columns, inner) if attributes.get("transB") else (inner, columns))),
        "w_scale": (0.02 + 0.01 * RANDOM.random(columns)).astype(np.float32),
        "w_zero": np.zeros(columns, np.int8),
        "b": RANDOM.integers(-999, 999, columns).astype(np.int32),
    }
    if quantized:
        inputs |= {"y_scale": np.float32(0.4 * inner**0.5), "y_zero": np.uint8(120)}
    return helper.make_node(
        "QGemm", list(inputs), ["y"], domain="com.microsoft", **attributes
    ), inputs


def matmul(left, right):
    inputs = {
        "x": bytes_of(*left),
        "x_scale": np.float32(0.05),
        "x_zero": np.uint8(97),
        "w": weight(*right),
        "w_scale": np.float32(0.02),
        "w_zero": np.int8(0),
        "y_scale": np.float32(0.4 * left[-1] ** 0.5),
        "y_zero": np.uint8(120),
    }
    return helper.make_node("QLinearMatMul", list(inputs), ["y"]), inputs


def matmul_integer(left, right, zero):
    inputs = {"x": bytes_of(*left), "w": weight(*right), "x_zero": np.uint8(55), "w_zero": zero}
    return helper.make_node("MatMulInteger", list(inputs), ["y"]), inputs


def dynamic_matmul(*, bias, domain="com.microsoft"):
    inputs = {
        "x": RANDOM.standard_normal((4, 7, 33)).astype(np.float32),
        "w": weight(33, 10),
        "w_scale": (0.01 + 0.01 * RANDOM.random(10)).astype(np.float32),
        "w_zero": np.zeros(10, np.int8),
    }
    if bias:
        inputs["b"] = RANDOM.standard_normal(10).astype(np.float32)
    return helper.make_node("DynamicQuantizeMatMul", list(inputs), ["y"], domain=domain), inputs


def matmul_to_float():
    inputs = {
        "x": bytes_of(5, 31),
        "w": weight(31, 6),
        "x_scale": np.float32(0.05),
        "w_scale": np.float32(0.02),
        "x_zero": np.uint8(9),
        "w_zero": np.int8(0),
    }
    names = list(inputs)
    return helper.make_node("MatMulIntegerToFloat", names, ["y"], domain="com.microsoft"), inputs


def lstm(**attributes):
    directions, size, width = len(attributes["directions"]), 11, 13
    inputs = {
        "x": RANDOM.standard_normal((6, 3, width)).astype(np.float32),
        "w": weight(directions, width, 4 * size),
        "r": weight(directions, size, 4 * size),
        "b": (0.1 * RANDOM.standard_normal((directions, 8 * size))).astype(np.float32),
        "w_scale": np.full((directions, 4 * size), 0.004, np.float32),
        "w_zero": np.zeros((directions, 4 * size), np.int8),
        "r_scale": np.full((directions, 4 * size), 0.004, np.float32),
        "r_zero": np.zeros((directions, 4 * size), np.int8),
    }
    direction = {"f": "forward", "r": "reverse", "fr": "bidirectional"}[attributes["directions"]]
    names = ["x", "w", "r", "b", "", "", "", "", "w_scale", "w_zero", "r_scale", "r_zero"]
    return helper.make_node(
        "DynamicQuantizeLSTM",
        names,
        ["y", "h", "c"],
        domain="com.microsoft",
        direction=direction,
        hidden_size=size,
        input_forget=0,
    ), inputs


def session_of(node, inputs, tmp_path):
    """ONNX Runtime on the node alone; all but `x` is constant."""
    kinds = {np.dtype(np.uint8): TensorProto.UINT8, np.dtype(np.float32): TensorProto.FLOAT}
    graph = helper.make_graph(
        [node],
        "graph",
        [helper.make_tensor_value_info("x", kinds[inputs["x"].dtype], inputs["x"].shape)],
        [onnx.ValueInfoProto(name=name) for name in node.output],
        [numpy_helper.from_array(a, name) for name, a in inputs.items() if name != "x"],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    return plain_session(tmp_path / "model.onnx", model.SerializeToString())


CASES = {
    "conv": lambda: conv(5, 7, (3, 3), size=(9, 8), pads=[1, 0, 1, 2]),
    "conv-1x1": lambda: conv(16, 32, (1, 1), size=(5, 5)),
    "conv-strides": lambda: conv(8, 8, (3, 3), size=(9, 9), strides=[2, 1]),
    "conv-dilations": lambda: conv(8, 8, (3, 3), size=(9, 9), dilations=[2, 2]),
    "conv-groups": lambda: conv(12, 8, (3, 3), size=(6, 6), group=4),
    "conv-depthwise": lambda: conv(16, 16, (3, 3), size=(6, 6), group=16),
    "conv-1d": lambda: conv(6, 10, (5,), size=(20,), auto_pad="SAME_UPPER"),
    "conv-3d": lambda: conv(4, 6, (3, 3, 3), size=(5, 5, 5)),
    "gemm": lambda: gemm(3, 33, 5, quantized=True, transB=1),
    "gemm-float": lambda: gemm(4, 64, 17, quantized=False),
    "matmul": lambda: matmul((2, 5, 31), (31, 9)),
    "matmul-stack": lambda: matmul((3, 2, 5, 32), (2, 32, 9)),
    "integer": lambda: matmul_integer((4, 37), (37, 11), np.int8(3)),
    "integer-zeros": lambda: matmul_integer((2, 4, 36), (36, 8), weight(8)),
    "to-float": matmul_to_float,
    "dynamic": lambda: dynamic_matmul(bias=False),
    "dynamic-bias": lambda: dynamic_matmul(bias=True),
    "lstm": lambda: lstm(directions="f"),
    "lstm-reverse": lambda: lstm(directions="r"),
    "lstm-both": lambda: lstm(directions="fr"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_operator_gives_what_onnx_runtime_gives(case, tmp_path):
    node, inputs = CASES[case]()
    own = session_of(node, inputs, tmp_path).run(None, {"x": inputs["x"]})
    products = Products(saturating=machine.saturates())
    found = compute(node, [inputs[name] if name else None for name in node.input], products)
    assert list(found) == list(node.output)
    for name, array in zip(node.output, own, strict=True):
        assert found[name].dtype == array.dtype
        # an LSTM quantizes its state by what its own tanh gives, in the last digit
        most = 5e-3 if case.startswith("lstm") else 0
        assert np.abs(found[name].astype(float) - array).max() <= most
    assert products.pairs > 0


def test_depthwise_kernels_do_not_saturate():
    node, inputs = conv(16, 16, (3, 3), size=(6, 6), group=16)
    assert weights(node, inputs["w"]) == []


def test_signed_activations_become_unsigned():
    node, inputs = matmul((4, 12), (12, 3))
    signed = inputs | {
        "x": (inputs["x"].astype(np.int16) - 128).astype(np.int8),
        "x_zero": np.int8(97 - 128),
    }
    both = [
        compute(node, [given[name] for name in node.input], Products(saturating=True))["y"]
        for given in (inputs, signed)
    ]
    assert np.array_equal(*both)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"clip": 3.0}, "attribute clip is not known"),
        ({"activations": ["Relu", "Tanh", "Tanh"]}, "an LSTM with other activations"),
    ],
)
def test_what_is_not_known_is_said(change, said):
    node, inputs = lstm(directions="f")
    for name, value in change.items():
        node.attribute.append(helper.make_attribute(name, value))
    with pytest.raises(NotImplementedError, match=said):
        compute(
            node,
            [inputs[name] if name else None for name in node.input],
            Products(saturating=True),
        )
