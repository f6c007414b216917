"""Faults: each kind changes what it says, one at a time, and leaves the original as it was."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from pytest_onnxcheck.engine.graph.walk import nodes_of
from pytest_onnxcheck.engine.mutants.mutants import OPERATORS, Mutant, mutants


def weight(*shape, dtype="float32"):
    return np.random.default_rng(shape).normal(size=shape).astype(dtype)


def integers(*shape):
    return np.random.default_rng(shape).integers(-127, 128, shape).astype("int8")


def save(path: Path, text: str, opset: int = 20, **constants) -> Path:
    """A model from ONNX's textual syntax; its constants are initializers."""
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft": 1]> net {text}'
    )
    for name, value in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def run(model: onnx.ModelProto, **feeds):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    found = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def copy(mutant: Mutant) -> Mutant:
    """A mutant that outlives the next one."""
    model = onnx.ModelProto()
    model.CopyFrom(mutant.model)
    return Mutant(mutant.operator, mutant.description, mutant.where, model)


def faults(path: Path, operator: str, count: int = 200) -> list[Mutant]:
    """The mutants of one kind, each checked and loaded."""
    found = [copy(mutant) for mutant in mutants(path, count, "seed") if mutant.operator == operator]
    for mutant in found:
        onnx.checker.check_model(mutant.model, full_check=True)
        onnxruntime.InferenceSession(
            mutant.model.SerializeToString(), providers=["CPUExecutionProvider"]
        )
    return found


def attribute(model: onnx.ModelProto, index: int, name: str):
    (found,) = (a for a in model.graph.node[index].attribute if a.name == name)
    return onnx.helper.get_attribute_value(found)


# weights


@pytest.mark.parametrize(
    ("dtype", "integer", "mantissa", "exponent"),
    [("float32", "uint32", 23, 8), ("float16", "uint16", 10, 5), ("float64", "uint64", 52, 11)],
)
def test_one_bit_of_one_exponent_is_flipped(tmp_path, dtype, integer, mantissa, exponent):
    onnx_type = {"float32": "float", "float16": "float16", "float64": "double"}[dtype]
    path = save(
        tmp_path / "m.onnx",
        f"({onnx_type}[2,3] x) => ({onnx_type}[2,4] y) {{ y = MatMul(x, w) }}",
        w=weight(3, 4, dtype=dtype),
    )
    before = constants(onnx.load(path))["w"]
    found = faults(path, "exponent-bit", 300)
    assert len(found) > 10
    bits = set()
    for mutant in found:
        after = constants(mutant.model)["w"]
        assert np.isfinite(after).all()
        flipped = before.view(integer) ^ after.view(integer)
        (value,) = flipped[flipped != 0]
        bit = int(value).bit_length() - 1
        assert int(value) == 1 << bit
        bits.add(bit - mantissa)
        (index,) = np.argwhere(before != after)
        place = ",".join(map(str, index))
        assert mutant.description == (
            f"weight 'w'[{place}]: exponent bit {bit - mantissa} flipped,"
            f" {before[tuple(index)]:.6g} -> {after[tuple(index)]:.6g}"
        )
    assert bits <= set(range(exponent))
    assert len(bits) > 2


def test_the_weight_of_a_constant_node_is_flipped(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[2,2] x) => (float[2,2] y)"
        "{ w = Constant <value: tensor = float[2] {1.0, -2.0}> () y = Mul(x, w) }",
    )
    x = weight(2, 2)
    for mutant in faults(path, "exponent-bit"):
        assert mutant.where == "w"
        (y,) = run(mutant.model, x=x)
        assert (y != x * [1, -2]).any()


def test_what_decides_shapes_and_what_is_zero_is_not_flipped(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[1,1,2,2] x) => (float[1,1,4,4] y) { z = Add(x, zero) y = Resize(z, , scales) }",
        zero=np.zeros((1, 1, 2, 2), "float32"),
        scales=np.float32([1, 1, 2, 2]),
    )
    assert faults(path, "exponent-bit") == []


def test_a_tensor_with_two_elements_runs_out_of_exponent_bits(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[2,2] x) => (float[2,2] y) { y = Mul(x, w) }",
        w=np.float32([0.0, 3.0]),
    )
    # 3 is 1.5 * 2 ** 1: its exponent is 128, and the lower seven bits are clear. The highest bit
    # alone may go; setting each other one gives a larger number.
    assert len(faults(path, "exponent-bit")) == 8


QDQ = """(float[2,3] x) => (float[2,4] y) {
    qx = QuantizeLinear(x, sx, zx)
    dx = DequantizeLinear(qx, sx, zx)
    dw = DequantizeLinear <axis = 1> (w, sw, zw)
    y = MatMul(dx, dw)
}"""


def quantized(path: Path) -> Path:
    return save(
        path,
        QDQ,
        sx=np.float32(0.05),
        zx=np.uint8(128),
        w=integers(3, 4),
        sw=np.float32([0.01, 0.02, 0.03, 0.04]),
        zw=np.zeros(4, "int8"),
    )


def test_one_bit_of_a_quantized_weight_is_flipped(tmp_path):
    path = quantized(tmp_path / "m.onnx")
    before = constants(onnx.load(path))["w"]
    found = faults(path, "integer-bit")
    assert len(found) > 10
    for mutant in found:
        assert mutant.where == "w"
        flipped = (before ^ constants(mutant.model)["w"]).view("uint8")
        assert [bin(value).count("1") for value in flipped[flipped != 0]] == [1]


def test_a_scale_is_changed_for_one_reader_only(tmp_path):
    path = quantized(tmp_path / "m.onnx")
    original = onnx.load(path)
    x = weight(2, 3)
    (before,) = run(original, x=x)
    found = faults(path, "scale-changed")
    assert {mutant.where for mutant in found} == {"sx", "sw"}
    assert len(found) == 5
    for mutant in found:
        (after,) = run(mutant.model, x=x)
        columns = [0, 1, 2, 3]
        if mutant.where == "sw":
            columns = [int(mutant.description.split("[")[1][0])]
        expected = before.copy()
        expected[:, columns] *= 1.1
        np.testing.assert_allclose(after, expected, rtol=1e-5)
        assert mutant.model.graph.node[0] == original.graph.node[0]


def test_the_scale_of_a_dynamically_quantized_matmul_is_changed(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        """(float[2,3] x) => (float[2,4] y) {
            q, s, z = DynamicQuantizeLinear(x)
            scale = Mul(s, sw)
            i = MatMulInteger(q, w, z)
            f = Cast <to = 1> (i)
            y = Mul(f, scale)
        }""",
        w=integers(3, 4),
        sw=np.float32([0.01, 0.02, 0.03, 0.04]),
    )
    assert {mutant.where for mutant in faults(path, "scale-changed")} == {"sw"}
    assert {mutant.where for mutant in faults(path, "integer-bit")} == {"w"}


CHANNELS = {
    "Conv": ("(float[1,3,5,5] x) => (float[1,4,3,3] y) { y = Conv(x, w) }", (4, 3, 3, 3), 1),
    "ConvTranspose": (
        "(float[1,3,5,5] x) => (float[1,4,7,7] y) { y = ConvTranspose(x, w) }",
        (3, 4, 3, 3),
        1,
    ),
    "Gemm": ("(float[2,3] x) => (float[2,4] y) { y = Gemm(x, w) }", (3, 4), 1),
    "Gemm-transB": (
        "(float[2,3] x) => (float[2,4] y) { y = Gemm <transB = 1> (x, w) }",
        (4, 3),
        1,
    ),
    "MatMul": ("(float[2,3] x) => (float[2,4] y) { y = MatMul(x, w) }", (3, 4), 1),
    "MatMul-left": ("(float[3,2] x) => (float[4,2] y) { y = MatMul(w, x) }", (4, 3), 0),
    "Transpose": (
        "(float[2,3] x) => (float[2,4] y){ t = Transpose <perm = [1, 0]> (w) y = MatMul(x, t) }",
        (4, 3),
        1,
    ),
    "Cast": (
        "(double[2,3] x) => (double[2,4] y) { t = Cast <to = 11> (w) y = MatMul(x, t) }",
        (3, 4),
        1,
    ),
    "Gather": ("(int64[2] x) => (float[2,4] y) { y = Gather(w, x) }", (3, 4), 1),
}


@pytest.mark.parametrize("reader", CHANNELS)
def test_one_output_channel_is_scaled(tmp_path, reader):
    text, shape, axis = CHANNELS[reader]
    path = save(tmp_path / "m.onnx", text, w=weight(*shape))
    original = onnx.load(path)
    dims = [d.dim_value for d in original.graph.input[0].type.tensor_type.shape.dim]
    x = weight(*dims, dtype="float64" if reader == "Cast" else "float32")
    x = np.arange(2) if reader == "Gather" else x
    (before,) = run(original, x=x)
    found = faults(path, "scaled-channel")
    assert len(found) == 4
    scaled = set()
    for mutant in found:
        assert mutant.where == "w"
        (after,) = run(mutant.model, x=x)
        ratio = np.moveaxis(after / before, axis, 0).reshape(4, -1)
        factors = [1.01 if (row > 1.005).all() else 1.0 for row in ratio]
        np.testing.assert_allclose(ratio, np.float32(factors)[:, None] * np.ones_like(ratio), 1e-3)
        assert sum(factors) == pytest.approx(4.01)
        scaled.add(factors.index(1.01))
    assert scaled == {0, 1, 2, 3}


def test_the_channel_of_a_quantized_weight_is_scaled_by_its_scale(tmp_path):
    found = faults(quantized(tmp_path / "m.onnx"), "scaled-channel")
    assert sorted(mutant.description for mutant in found) == [
        f"weight 'w': channel {i} of axis 1 scaled by 1.01 by way of 'sw'" for i in range(4)
    ]


def test_a_square_weight_is_transposed(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        """(float[2,3] x) => (float[2,4] y) {
            a = MatMul(x, square)
            b = MatMul(a, symmetric)
            y = Gemm(b, wide)
        }""",
        square=weight(3, 3),
        symmetric=np.eye(3, dtype="float32"),
        wide=weight(3, 4),
    )
    (mutant,) = faults(path, "transposed-weight")
    assert mutant.description == "weight 'square' (3x3) transposed"
    before, after = constants(onnx.load(path)), constants(mutant.model)
    np.testing.assert_array_equal(after["square"], before["square"].T)


BIASES = {
    "Conv": "(float[1,3,5,5] x) => (float[1,4,3,3] y) { y = Conv(x, w, b) }",
    "Gemm": "(float[2,3] x) => (float[2,4] y) { y = Gemm(x, w, b) }",
    "Add": "(float[2,4] x) => (float[2,4] y) { y = Add(b, x) }",
    "Add-broadcast": "(float[2,1] x) => (float[2,4] y) { y = Add(x, b) }",
    "Identity": "(float[2,4] x) => (float[2,4] y) { c = Identity(b) y = Add(x, c) }",
    "LayerNormalization": "(float[2,4] x) => (float[2,4] y) { y = LayerNormalization(x, s, b) }",
}


@pytest.mark.parametrize("reader", BIASES)
@pytest.mark.parametrize("zero", [False, True], ids=["", "zero"])
def test_a_bias_is_dropped_unless_it_is_zero(tmp_path, reader, zero):
    bias = weight(4)
    shape = {"Conv": (4, 3, 3, 3), "Gemm": (3, 4)}.get(reader)
    more = {"w": weight(*shape)} if shape else {}
    more |= {"s": np.ones(4, "float32")} if reader == "LayerNormalization" else {}
    path = save(tmp_path / "m.onnx", BIASES[reader], b=bias * (not zero), **more)
    found = faults(path, "dropped-bias")
    if zero:
        assert found == []
        return
    (mutant,) = found
    dims = [d.dim_value for d in mutant.model.graph.input[0].type.tensor_type.shape.dim]
    x = weight(*dims)
    (before,), (after,) = run(onnx.load(path), x=x), run(mutant.model, x=x)
    expected = before - (bias[:, None, None] if reader == "Conv" else bias)
    np.testing.assert_allclose(after, expected, atol=1e-5)


# attributes


@pytest.mark.parametrize(
    ("text", "constants"),
    [
        ("y = LayerNormalization <epsilon = 0.001> (x, one, zero)", ["one", "zero"]),
        ("y = InstanceNormalization <epsilon = 0.001> (x, one, zero)", ["one", "zero"]),
        (
            "y = BatchNormalization <epsilon = 0.001> (x, one, zero, zero, one)",
            ["one", "zero"],
        ),
        ("q = Mul(x, x) e = Add(q, eps) r = Sqrt(e) y = Div(x, r)", ["eps"]),
        ("a = Abs(x) e = Max(a, eps) y = Div(x, e)", ["eps"]),
    ],
    ids=["layer", "instance", "batch", "Add", "Max"],
)
def test_an_epsilon_grows(tmp_path, text, constants):
    values = {
        "one": np.ones(3, "float32"),
        "zero": np.zeros(3, "float32"),
        "eps": np.float32(1e-3),
    }
    path = save(
        tmp_path / "m.onnx",
        f"(float[2,3,3] x) => (float[2,3,3] y) {{ {text} }}",
        **{name: values[name] for name in constants},
    )
    x = weight(2, 3, 3) / 100
    (before,) = run(onnx.load(path), x=x)
    found = faults(path, "epsilon-changed")
    assert sorted(m.description.split(": ")[1] for m in found) == ["0.001 -> 0.01", "0.001 -> 0.1"]
    for mutant in found:
        (after,) = run(mutant.model, x=x)
        assert np.abs(after).sum() < 0.999 * np.abs(before).sum()


def test_an_addend_that_guards_nothing_is_no_epsilon(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[2] x) => (float[2] y) { e = Add(x, eps) y = Relu(e) }",
        eps=np.float32(1e-3),
    )
    assert faults(path, "epsilon-changed") == []


def test_pads_move_to_the_other_side_and_the_shape_stays(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[1,1,4,4] x) => (float[1,1,H,W] y) { y = Conv <pads = [1, 0, 1, 2]> (x, w) }",
        w=weight(1, 1, 3, 3),
    )
    x = weight(1, 1, 4, 4)
    (before,) = run(onnx.load(path), x=x)
    found = faults(path, "pads-changed")
    moved = [list(attribute(mutant.model, 0, "pads")) for mutant in found]
    assert sorted(moved) == [[0, 0, 2, 2], [1, 1, 1, 1], [2, 0, 0, 2]]
    for mutant in found:
        (after,) = run(mutant.model, x=x)
        assert after.shape == before.shape
        assert not np.allclose(after, before)


def test_the_kernel_of_a_pool_still_reaches_over_its_pads(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[1,1,4,4] x) => (float[1,1,5,5] y)"
        "{ y = MaxPool <kernel_shape = [2, 2], pads = [1, 1, 1, 1]> (x) }",
    )
    assert faults(path, "pads-changed") == []


def test_the_padding_of_a_pad_changes(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[2,3] x) => (float[2,6] y) { y = Pad(x, pads, value) }",
        pads=np.int64([0, 1, 0, 2]),
        value=np.float32(0.5),
    )
    found = {mutant.description: mutant for mutant in faults(path, "pads-changed")}
    assert set(found) == {
        "mode of Pad 'y': constant -> edge",
        "pads of Pad 'y': [0, 1, 0, 2] -> [0, 0, 0, 3]",
        "pads of Pad 'y': [0, 1, 0, 2] -> [0, 2, 0, 1]",
        "value of Pad 'y': 0.5 -> 1.5",
    }
    x = weight(2, 3)
    outputs = {key: run(mutant.model, x=x)[0] for key, mutant in found.items()}
    np.testing.assert_array_equal(
        outputs["mode of Pad 'y': constant -> edge"], np.pad(x, [(0, 0), (1, 2)], "edge")
    )
    np.testing.assert_array_equal(
        outputs["value of Pad 'y': 0.5 -> 1.5"],
        np.pad(x, [(0, 0), (1, 2)], constant_values=1.5),
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Relu", "LeakyRelu"),
        ("LeakyRelu <alpha = 0.2>", "Relu"),
        ("Sigmoid", "HardSigmoid"),
        ("HardSigmoid <alpha = 0.1>", "Sigmoid"),
        ("Tanh", "Softsign"),
        ("Softplus", "Relu"),
        ("Erf", "Tanh"),
        ("HardSwish", "Relu"),
        ("Mish", "Relu"),
        ("Elu", "Relu"),
        ("Selu", "Elu"),
        ("Gelu", "Gelu"),
        ('Gelu <approximate = "tanh">', "Gelu"),
        ("com.microsoft.Gelu", "FastGelu"),
    ],
)
def test_an_activation_is_replaced(tmp_path, before, after):
    path = save(tmp_path / "m.onnx", f"(float[4,4] x) => (float[4,4] y) {{ y = {before}(x) }}")
    found = [copy(m) for m in mutants(path, 50, "seed") if m.operator == "replaced-activation"]
    assert [mutant.model.graph.node[0].op_type for mutant in found] == [after]
    x = weight(4, 4)
    (expected,), (actual,) = run(onnx.load(path), x=x), run(found[0].model, x=x)
    assert (expected != actual).any()


def test_prelu_loses_its_slope(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[4,4] x) => (float[4,4] y) { y = PRelu(x, slope) }",
        slope=np.float32([0.1, 0.2, 0.3, 0.4]),
    )
    (mutant,) = faults(path, "replaced-activation")
    x = weight(4, 4)
    np.testing.assert_array_equal(run(mutant.model, x=x)[0], np.maximum(x, 0))


@pytest.mark.parametrize(("opset", "axis"), [(11, 1), (13, 2), (20, 2)])
def test_a_softmax_gets_each_other_axis(tmp_path, opset, axis):
    path = save(
        tmp_path / "m.onnx",
        "(float[2,3,4] x) => (float[2,3,4] y) { z = Neg(x) y = Softmax(z) }",
        opset,
    )
    found = faults(path, "replaced-activation")
    assert {mutant.description: attribute(mutant.model, 1, "axis") for mutant in found} == {
        f"axis of Softmax 'y': {axis} -> {other}": other for other in {0, 1, 2} - {axis}
    }
    for mutant in found:
        (y,) = run(mutant.model, x=weight(2, 3, 4))
        if opset >= 13:
            np.testing.assert_allclose(y.sum(attribute(mutant.model, 1, "axis")), 1, rtol=1e-5)


def test_bounds_of_a_clip_move_inwards(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[9] x) => (float[9] y) { y = Clip(x, low, high) }",
        low=np.float32(0),
        high=np.float32(6),
    )
    x = np.linspace(-8, 8, 9, dtype="float32")
    found = {m.description: run(m.model, x=x)[0] for m in faults(path, "replaced-activation")}
    assert {key: (y.min(), y.max()) for key, y in found.items()} == {
        "min of Clip 'y': 0 -> 0.1": (np.float32(0.1), 6),
        "max of Clip 'y': 6 -> 3": (0, 3),
    }


def test_axes_of_the_same_size_change_places(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[N,3,4,4] x) => (float[N,4,4,3] y) { y = Transpose <perm = [0, 2, 3, 1]> (x) }",
    )
    (mutant,) = faults(path, "perm-changed")
    x = weight(2, 3, 4, 4)
    np.testing.assert_array_equal(run(mutant.model, x=x)[0], x.transpose(0, 3, 2, 1))


def test_a_mean_becomes_a_maximum(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[2,3,4,4] x) => (float[2,3,1,1] y, float[2,3,1,1] z)"
        "{ y = ReduceMean(x, axes) z = GlobalAveragePool(x) }",
        axes=np.int64([2, 3]),
    )
    first, second = faults(path, "reduction-changed")
    x = weight(2, 3, 4, 4)
    largest = x.max((2, 3), keepdims=True)
    for mutant in (first, second):
        y, z = run(mutant.model, x=x)
        assert np.array_equal(y, largest) != np.array_equal(z, largest)
        assert np.array_equal(y, largest) == (mutant.where == "y")


# inputs and outputs

TWO = """(float[N,3] x) => (float[N,3] a, float[3,N] b, int64[N] c, float[N] d) {
    a = Neg(x)
    t = Relu(a)
    b = Transpose <perm = [1, 0]> (t)
    back = Transpose <perm = [1, 0]> (b)
    c = ArgMax <axis = 1, keepdims = 0> (back)
    d = ReduceSum <keepdims = 0> (a, axes)
}"""


def two(path: Path) -> Path:
    return save(path, TWO, axes=np.int64([1]))


def test_two_outputs_change_places_and_keep_their_names(tmp_path):
    path = two(tmp_path / "m.onnx")
    x = weight(2, 3)
    a, b, c, d = run(onnx.load(path), x=x)
    (mutant,) = faults(path, "swapped-outputs")
    assert mutant.description == "outputs 'a' and 'b' swapped"
    assert [output.name for output in mutant.model.graph.output] == ["a", "b", "c", "d"]
    declared = [output.type for output in onnx.load(path).graph.output]
    assert [output.type for output in mutant.model.graph.output] == [
        declared[index] for index in (1, 0, 2, 3)
    ]
    for expected, actual in zip((b, a, c, d), run(mutant.model, x=x), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_an_output_gets_another_dtype(tmp_path):
    path = two(tmp_path / "m.onnx")
    x = weight(2, 3)
    before = run(onnx.load(path), x=x)
    found = faults(path, "dtype-changed")
    assert {mutant.description for mutant in found} == {
        *(f"output {n!r} cast: float32 -> float{w}" for n in "abd" for w in (16, 64)),
        "output 'c' cast: int64 -> int32",
    }
    for mutant in found:
        after = run(mutant.model, x=x)
        dtype = mutant.description.split()[-1]
        index = "abcd".index(mutant.where)
        assert [str(y.dtype) for y in after] == [
            dtype if i == index else str(y.dtype) for i, y in enumerate(before)
        ]
        np.testing.assert_allclose(after[index], before[index], rtol=1e-2)


def test_a_dim_becomes_static_in_inputs_and_outputs(tmp_path):
    path = two(tmp_path / "m.onnx")
    (mutant,) = faults(path, "static-dim")
    assert mutant.where == "N"
    for value in (*mutant.model.graph.input, *mutant.model.graph.output):
        assert not any(dim.dim_param for dim in value.type.tensor_type.shape.dim)
    run(mutant.model, x=weight(3, 3))
    with pytest.raises(Exception, match="invalid dimensions"):
        run(mutant.model, x=weight(2, 3))


# the run


def gate(path: Path, count: int, seed: str) -> list[tuple[str, str]]:
    return [(m.operator, m.description) for m in mutants(path, count, seed)]


class Block(nn.Module):
    """Enough of a transformer to hold LayerNorm, MatMul, Softmax and Gelu."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.norm, self.expand, self.shrink = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, ids):
        x = self.norm(self.embed(ids))
        scores = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), -1)
        return self.shrink(torch.nn.functional.gelu(self.expand(scores @ x))), scores


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(64, 64),
        nn.Sigmoid(),
        nn.Linear(64, 3),
    )


FORMS = {
    "convolutional": (convolutional, lambda: torch.randn(2, 2, 8, 8), ["y"]),
    "transformer": (Block, lambda: torch.randint(0, 11, (2, 5)), ["y", "scores"]),
    "recurrent": (Tagger, lambda: torch.randn(2, 5, 5), ["y"]),
}
ALWAYS = {"exponent-bit", "scaled-channel", "dropped-bias", "replaced-activation", "static-dim"}
EXPECTED = {
    "convolutional": ALWAYS | {"dtype-changed", "transposed-weight", "pads-changed"},
    "transformer": ALWAYS
    | {"dtype-changed", "transposed-weight", "epsilon-changed", "swapped-outputs"},
    "recurrent": ALWAYS | {"dtype-changed"},
}


@pytest.fixture(
    scope="module",
    params=itertools.product(FORMS, ["dynamo", "torchscript"]),
    ids="-".join,
)
def exported(request, tmp_path_factory):
    """A real model of each form, from each exporter."""
    form, exporter = request.param
    dynamo = exporter == "dynamo"
    build, example, outputs = FORMS[form]
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    args = (example(),)
    dynamic = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
        if dynamo
        else {"dynamic_axes": {"x": {0: "batch"}}}
    )
    torch.onnx.export(
        build().eval(),
        args,
        str(path),
        dynamo=dynamo,
        input_names=["x"],
        output_names=outputs,
        opset_version=20,
        external_data=False,
        verbose=False,
        **dynamic,
    )
    return form, path, args[0].numpy()


def test_every_mutant_of_a_real_model_loads_and_most_show(exported):
    form, path, x = exported
    original, on_disk = onnx.load(path), path.read_bytes()
    expected = run(original, x=x)
    found, unchanged, last = [], [], None
    for mutant in mutants(path, 60, "seed"):
        last = mutant.model
        found.append(mutant.operator)
        onnx.checker.check_model(last)
        assert last != original, mutant
        if mutant.operator == "static-dim":
            continue
        actual = run(last, x=x)
        if all(
            a.dtype == e.dtype and np.array_equal(a, e)
            for a, e in zip(actual, expected, strict=True)
        ):
            unchanged.append(mutant.description)
    assert len(found) == 60
    assert set(found) >= EXPECTED[form]
    # what a model never reads, or reads into a relu at rest, does not show
    assert len(unchanged) <= 12, unchanged
    assert last == original
    assert path.read_bytes() == on_disk


def test_all_kinds_that_apply_come_in_the_first_round(exported):
    form, path, _ = exported
    first = [operator for operator, _ in gate(path, len(EXPECTED[form]), "any")]
    assert len(set(first)) == len(first)
    assert {operator for operator, _ in gate(path, 30, "any")} >= EXPECTED[form]
    assert set(first) <= set(OPERATORS)


def test_the_recurrent_weights_are_reached_through_what_the_exporter_does_to_them(exported):
    form, path, _ = exported
    if form != "recurrent":
        pytest.skip("has no recurrent weights")
    names = {m.where for m in mutants(path, 200, "s") if m.operator == "scaled-channel"}
    assert len(names) >= 3  # W and R of the LSTM, and the head


def test_a_seed_gives_the_same_mutants_and_another_gives_others(exported):
    _, path, _ = exported
    assert gate(path, 30, "a") == gate(path, 30, "a")
    assert gate(path, 30, "a")[:10] == gate(path, 10, "a")
    assert gate(path, 30, "a") != gate(path, 30, "b")


def test_no_two_mutants_are_the_same(exported):
    _, path, _ = exported
    found = gate(path, 150, "a")
    assert len(found) == 150
    assert len({description for _, description in found}) == 150


def test_the_order_of_sets_has_no_say(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[2,3] x) => (float[2,4] y)"
        "{ q = BatchNormalization(x, s, m, m, s) y = Gemm(q, weight, bias) }",
        **{"weight": weight(3, 4), "bias": weight(4), "s": weight(3) ** 2, "m": weight(3)},
    )
    code = (
        "import sys; from pathlib import Path\n"
        "from pytest_onnxcheck.engine.mutants.mutants import mutants\n"
        "print([m.description for m in mutants(Path(sys.argv[1]), 30, 'a')])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert printed == {f"{[description for _, description in gate(path, 30, 'a')]}\n"}


def test_fewer_come_where_a_model_admits_no_more(tmp_path):
    path = save(tmp_path / "m.onnx", "(float[4] x) => (float[4] y) { y = Relu(x) }")
    found = gate(path, 100, "a")
    assert sorted(operator for operator, _ in found) == [
        "dtype-changed",
        "dtype-changed",
        "replaced-activation",
    ]
    assert len(gate(path, 2, "a")) == 2
    assert gate(path, 0, "a") == []


@pytest.mark.parametrize("build", [two, quantized])
def test_a_run_that_is_left_early_restores_the_model(tmp_path, build):
    path = build(tmp_path / "m.onnx")
    original = onnx.load(path)
    for count in range(1, 9):
        run_of = mutants(path, 20, "a")
        for _ in range(count):
            model = next(run_of).model
        assert model != original
        run_of.close()
        assert model == original


def test_external_data_is_loaded(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[2,32] x) => (float[2,32] y) { y = MatMul(x, w) }",
        w=weight(32, 32),
    )
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    data = (tmp_path / "m.data").read_bytes()
    x = weight(2, 32)
    for mutant in mutants(path, 6, "a"):
        run(mutant.model, x=x)
    assert (tmp_path / "m.data").read_bytes() == data


def test_nodes_and_weights_no_output_depends_on_are_left_alone(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[2,3] x) => (float[2,3] y) { y = Neg(x) dead = MatMul(x, w) idle = Tanh(dead) }",
        w=weight(3, 3),
    )
    assert {operator for operator, _ in gate(path, 100, "a")} == {"dtype-changed"}


def test_a_value_that_a_subgraph_reads_is_renamed_there_too(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        """(bool c, float[2,2] x) => (float[2,2] a, float[2,2] y) {
            a = MatMul(x, w)
            y = If (c) <
                then_branch = yes () => (float[2,2] p) { p = Neg(a) },
                else_branch = no () => (float[2,2] q) { q = Relu(a) }
            >
        }""",
        w=weight(2, 2),
    )
    x = weight(2, 2)
    expected = run(onnx.load(path), c=np.array(True), x=x)
    for mutant in faults(path, "dtype-changed") + faults(path, "swapped-outputs"):
        actual = run(mutant.model, c=np.array(True), x=x)
        if mutant.operator == "swapped-outputs":
            actual.reverse()
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-2)
    assert {node.op_type for node in nodes_of(onnx.load(path).graph)} >= {"Neg", "If"}


def test_a_mutant_is_printed_without_its_weights(tmp_path):
    path = two(tmp_path / "m.onnx")
    mutant = next(mutants(path, 1, "a"))
    assert "model" not in repr(mutant)
