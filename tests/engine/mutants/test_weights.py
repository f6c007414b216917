"""Faults in weights: each changes what it says, and nothing else."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_models import constants, faults, integers, quantized, run, save, weight


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
