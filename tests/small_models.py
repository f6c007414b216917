"""Small models in ONNX's textual syntax, and their mutants, for the tests beside this file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from pytest_onnxcheck.engine.mutants.mutants import Mutant, mutants


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


def save_nodes(path, nodes, weights, shape, *, opset=20):
    """A model from nodes and weights, with one input `x` and one output `y`."""
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
