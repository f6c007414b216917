"""Faults in nodes: each changes what it says, and shapes stay."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from small_models import attribute, copy, faults, run, save, weight

from pytest_onnxcheck.engine.mutants.mutants import mutants


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
