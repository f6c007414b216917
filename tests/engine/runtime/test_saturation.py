"""What an int8 artefact gives on CPUs that saturate: recorded on one, and computed here."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from helpers import arrays_in
from onnx import TensorProto, helper, numpy_helper

from pytest_onnxcheck.engine.runtime.saturation import Emulation
from pytest_onnxcheck.engine.runtime.worker import open_handle
from pytest_onnxcheck.errors import RunError
from pytest_onnxcheck.manifest.targets import CPU, Target

RECORDED = Path(__file__).parents[2] / "data" / "saturation"
ROWS = json.loads((RECORDED / "recorded.json").read_text())["rows"]
RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["artefact"].removesuffix(".onnx"))
def test_a_recorded_artefact_gives_what_the_cpu_without_vnni_gave(row):
    path = RECORDED / row["artefact"]
    data = arrays_in(path.with_suffix(".npz"))
    emulation = Emulation(path, CPU)
    assert emulation.unknown == ""
    assert bool(emulation.layers) is ("7bit" not in path.name)
    for saturating, name in ((True, "plain"), (False, "precise")):
        (found,) = emulation.run({"x": data["x"]}, saturating=saturating)[0].values()
        # the integers are equal; floats between them may differ in their last digits by the CPU
        assert ratio_db(data[name], found) > 100
        key = "sqnr_db_plain" if saturating else "sqnr_db_x64quantprecision"
        assert ratio_db(data["float64"], found) == pytest.approx(row[key], abs=0.05)


def ratio_db(exact, found):
    noise = ((found - exact) ** 2).sum()
    return float(10 * np.log10((exact**2).sum() / max(noise, 1e-30)))


def save(path, nodes, outputs, constants, x=TensorProto.FLOAT):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", x, [None, 8])],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def quantized_matmul(name, x, y, *, kind=np.int8, high=127):
    """A DynamicQuantizeMatMul of [8, 8], with its constants."""
    low = -high if kind == np.int8 else 0
    constants = {
        f"{name}_w": RANDOM.integers(low, high + 1, (8, 8)).astype(kind),
        f"{name}_scale": np.float32([0.01]),
        f"{name}_zero": np.array(0, kind),
    }
    node = helper.make_node(
        "DynamicQuantizeMatMul", [x, *constants], [y], name, domain="com.microsoft"
    )
    return node, constants


def test_the_graph_is_cut_where_it_can_saturate_and_runs_as_a_whole(tmp_path):
    """Two branches, a value read on both sides of a cut, and one that is an output."""
    first, constants = quantized_matmul("first", "x", "a")
    second, more = quantized_matmul("second", "b", "c")
    safe, safer = quantized_matmul("safe", "b", "d", high=64)
    nodes = [
        first,
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        second,
        safe,
        helper.make_node("Add", ["c", "d"], ["e"], "add"),
        helper.make_node("Add", ["e", "b"], ["y"], "skip"),
    ]
    outputs = {"y": TensorProto.FLOAT, "b": TensorProto.FLOAT}
    path = save(tmp_path / "model.onnx", nodes, outputs, constants | more | safer)
    emulation = Emulation(path, CPU)
    assert [layer.node for layer in emulation.layers] == ["first", "second"]
    assert all(0 < layer.saturable < 1 for layer in emulation.layers)
    # ONNX Runtime's own answer on CPUs that do not saturate
    x = np.full((3, 8), 0.5, np.float32)
    found, products = emulation.run({"x": x}, saturating=False)
    assert list(found) == ["y", "b"]
    weights = {name: array.astype(np.float32) for name, array in (constants | more | safer).items()}
    b = np.maximum(x @ weights["first_w"] * 0.01, 0)
    assert found["b"] == pytest.approx(b, rel=0.01, abs=0.01)
    wanted = b @ weights["second_w"] * 0.01 + b @ weights["safe_w"] * 0.01 + b
    assert found["y"] == pytest.approx(wanted, abs=0.05)
    assert list(products) == ["a", "c"]
    assert products["a"].saturated > 0
    clipped, _ = emulation.run({"x": x}, saturating=True)
    assert np.abs(clipped["b"] - found["b"]).max() > 0.1


@pytest.mark.parametrize(
    ("high", "told"),
    [(127, "DynamicQuantizeMatMul 'inner' inside If, Loop or Scan: not known"), (64, "")],
)
def test_what_an_if_holds_is_told_where_it_can_saturate(tmp_path, high, told):
    node, constants = quantized_matmul("inner", "x", "inner_y", high=high)
    branches = [
        helper.make_graph(
            [given],
            "branch",
            [],
            [helper.make_tensor_value_info(given.output[0], TensorProto.FLOAT, None)],
        )
        for given in (node, helper.make_node("Identity", ["x"], ["other_y"]))
    ]
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["any"], to=TensorProto.BOOL),
        helper.make_node("If", ["any"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    path = save(tmp_path / "model.onnx", nodes, {"y": TensorProto.FLOAT}, constants)
    emulation = Emulation(path, CPU)
    assert emulation.layers == []
    assert emulation.unknown == told


def test_external_data_is_read_beside_the_artefact(tmp_path):
    """ONNX Runtime's rewritten file lies elsewhere, and names the data by the same name."""
    source = RECORDED / "mlp.static-u8s8-8bit.onnx"
    path = tmp_path / "external.onnx"
    onnx.save(
        onnx.load(source), path, save_as_external_data=True, location="data", size_threshold=64
    )
    assert (tmp_path / "data").stat().st_size > 10_000
    data = arrays_in(source.with_suffix(".npz"))
    (found,) = Emulation(path, CPU).run({"x": data["x"]}, saturating=True)[0].values()
    assert ratio_db(data["plain"], found) > 100


def test_a_file_that_onnx_runtime_has_rewritten_before_is_read_too(tmp_path):
    """At its default level, which holds convolutions with the channels last."""
    source = RECORDED / "conv.static-u8s8-8bit.onnx"
    path = tmp_path / "rewritten.onnx"
    options = {"optimized_model_filepath": str(path)}
    open_handle(str(source), CPU.provider, {}, options)
    operators = {(node.domain, node.op_type) for node in onnx.load(path).graph.node}
    assert ("com.microsoft", "QLinearConv") in operators
    data = arrays_in(source.with_suffix(".npz"))
    for saturating, name in ((True, "plain"), (False, "precise")):
        (found,) = Emulation(path, CPU).run({"x": data["x"]}, saturating=saturating)[0].values()
        assert ratio_db(data[name], found) > 100


def test_computed_weights_may_saturate_unless_they_are_unsigned(tmp_path):
    table = RANDOM.integers(-127, 128, (3, 8, 8)).astype(np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["index"], to=TensorProto.INT64),
        helper.make_node("Gather", ["table", "index"], ["w"], "gather"),
        helper.make_node("MatMulInteger", ["q", "w", "zero"], ["y"], "product"),
    ]
    for name, constant, layers in (("signed", table, 1), ("unsigned", table.view(np.uint8), 1)):
        outputs = {"y": TensorProto.INT32}
        path = save(tmp_path / f"{name}.onnx", nodes, outputs, {"table": constant})
        emulation = Emulation(path, CPU)
        assert [layer.saturable for layer in emulation.layers] == [None] * layers
        x = np.eye(8, dtype=np.float32) + np.eye(8, k=1, dtype=np.float32)
        _, products = emulation.run({"x": x}, saturating=True)
        assert bool(products["y"].saturated) is (name == "signed")


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.full((1, 8), np.nan, np.float32), "first .*NaN or infinity that is quantized"),
        (np.full((1, 8), np.inf, np.float32), "first .*NaN or infinity that is quantized"),
    ],
)
def test_what_cannot_be_computed_is_an_error_of_the_run(tmp_path, x, said):
    node, constants = quantized_matmul("first", "x", "y")
    path = save(tmp_path / "model.onnx", [node], {"y": TensorProto.FLOAT}, constants)
    with pytest.raises(RunError, match=said):
        Emulation(path, CPU).run({"x": x}, saturating=True)


def test_an_empty_batch_is_computed(tmp_path):
    node, constants = quantized_matmul("first", "x", "y")
    path = save(tmp_path / "model.onnx", [node], {"y": TensorProto.FLOAT}, constants)
    found, _ = Emulation(path, CPU).run({"x": np.zeros((0, 8), np.float32)}, saturating=True)
    assert found["y"].shape == (0, 8)


def test_an_artefact_that_does_not_load_is_an_error(tmp_path):
    path = save(
        tmp_path / "model.onnx",
        [helper.make_node("Nothing", ["x"], ["y"])],
        {"y": TensorProto.FLOAT},
        {},
    )
    with pytest.raises(RunError, match=r"model\.onnx cannot be rewritten: .*Nothing"):
        Emulation(path, CPU)


def test_the_targets_level_of_optimisation_decides_what_computes_on_integers():
    """Without it, quantized layers stay apart, and compute in float32."""
    path = RECORDED / "mlp.static-u8s8-8bit.onnx"
    unchanged = Target("cpu", CPU.provider, {}, {"graph_optimization_level": "disable"})
    assert Emulation(path, unchanged).layers == []
    assert len(Emulation(path, CPU).layers) == 3
