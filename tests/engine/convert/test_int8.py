"""int8, dynamic and static: each option has its effect on weights, scales and ranges."""

import numpy as np
import onnxruntime
import pytest
from onnx import numpy_helper

from pytest_onnxcheck.engine.artefacts.checker import check_file
from pytest_onnxcheck.errors import QuantizeError


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


def test_batches_of_different_shapes_are_an_error_that_says_what_to_do(make_from):
    data = [{"x": np.ones((rows, 8), np.float32)} for rows in (2, 3)]
    with pytest.raises(QuantizeError) as caught:
        make_from(data, method="percentile")
    assert str(caught.value) == (
        'mlp: int8-static: method = "percentile" needs calibration batches of one shape: ONNX '
        "Runtime stacks them to count their values, and input 'x' comes in [2, 8] and [3, 8]. "
        'Give batches of one size, or use method = "entropy" or "minmax"'
    )
    assert make_from(data, method="minmax")


def test_entropy_counts_batch_by_batch_what_it_would_count_at_once(make_from):
    rows = np.random.default_rng(0).normal(0, 1, (24, 8)).astype(np.float32)
    rows[0] *= 1e-4  # a first batch that all others are far larger than
    whole = make_from([{"x": rows}], method="entropy")
    parts = make_from([{"x": rows[:1]}, {"x": rows[1:9]}, {"x": rows[9:]}], method="entropy")
    for name in ("x_scale", "x_zero_point", "y_scale", "y_zero_point"):
        assert parts[name] == whole[name]


def test_entropy_holds_the_values_of_one_batch_at_a_time(make_from, monkeypatch):
    from onnxruntime.quantization.calibrate import HistogramCollector

    held = []
    collect = HistogramCollector.collect

    def counted(self, values):
        held.append([len(arrays) for arrays in values.values()])
        return collect(self, values)

    monkeypatch.setattr(HistogramCollector, "collect", counted)
    rng = np.random.default_rng(0)
    data = [{"x": rng.normal(0, 1, (2, 8)).astype(np.float32)} for _ in range(9)]
    make_from(data, method="entropy")
    assert len(held) >= 9
    assert {number for numbers in held for number in numbers} == {1}


def test_entropy_names_the_value_that_is_not_finite(make_from):
    good = np.random.default_rng(0).normal(0, 1, (2, 8)).astype(np.float32)
    bad = good.copy()
    bad[1] = 3e38  # its products are infinite
    with pytest.raises(QuantizeError) as caught:
        make_from([{"x": good}, {"x": bad}], method="entropy")
    text = str(caught.value)
    assert "value '/0/Gemm_output_0' is not finite: it goes from " in text
    assert "inf" in text
    assert "in batch 1 of the calibration data, and no range follows" in text
    assert 'in float, exclude_nodes = ["/0/Gemm", "/1/Relu"], or mend the data' in text


def test_entropy_does_not_look_at_what_stays_in_float(make_from):
    data = np.full((2, 8), 3e38, np.float32)
    weights = make_from([{"x": data}], method="entropy", exclude_nodes=("/0/*", "/1/*", "/2/*"))
    assert not any(name.endswith("_scale") for name in weights)


def test_entropy_takes_what_is_only_huge_by_minimum_and_maximum(make_from):
    data = np.random.default_rng(0).normal(0, 1e-3, (2, 8)).astype(np.float32)
    data[0, 0] = 2e38
    weights = make_from([{"x": data}], method="entropy", exclude_nodes=("/2/*",))
    assert float(weights["x_scale"]) == pytest.approx(2e38 / 255, rel=0.01)


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_ranges_of_zero_do_not_break_the_tool(make_from, method):
    weights = make_from([{"x": np.zeros((2, 8), np.float32)}] * 2, method=method)
    assert all(np.isfinite(array).all() for array in weights.values())


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_calibration_runs_on_a_workers_share_of_threads(make_from, monkeypatch, method):
    threads = []

    class Session(onnxruntime.InferenceSession):
        def run(self, *args, **kwargs):
            threads.append(self.get_session_options().intra_op_num_threads)
            return super().run(*args, **kwargs)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    make_from([{"x": np.ones((2, 8), np.float32)}], method=method)
    assert set(threads) == {1}
