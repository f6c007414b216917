"""Which inputs of an ONNX operator are what, and which operators are alike, for all rooms.

What one algorithm chooses for itself stays with it, e.g. what a mutant replaces an activation with.
Operators of ONNX Runtime (com.microsoft) stand beside those of ONNX.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_onnxcheck.engine.graph.walk import nodes_of

if TYPE_CHECKING:
    import onnx

__all__ = [
    "CHANNEL_AXES",
    "CONVOLUTION_KERNEL",
    "GATES",
    "GATE_ACTIVATIONS",
    "INT32_BIAS",
    "INTEGER_COMPUTE",
    "INTEGER_WEIGHTS",
    "MATRIX_WEIGHTS",
    "OPERAND_SCALES",
    "OPTIONAL_BIAS",
    "PACKED_WEIGHT",
    "SATURABLE_WEIGHTS",
    "SCALES_AND_ZERO_POINTS",
    "SHAPE_STAND_INS",
    "WEIGHTED",
    "custom_operators",
    "holds_weights",
    "shares_scale",
]

# ------------------------------------------------------------------------------- weights

#: Operators that hold weights and that int8 is meant for.
WEIGHTED = frozenset(["Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "Attention"])


#: where the domains of ONNX and of ONNX Runtime begin; onnxruntime-extensions' is ai.onnx.contrib
_KNOWN_DOMAINS = ("ai.onnx.ml", "ai.onnx.preview", "com.microsoft", "com.ms.")


def holds_weights(node: onnx.NodeProto) -> bool:
    """Whether a node is one of `WEIGHTED`: ONNX's own Attention (opset 23) has no weights."""
    if node.op_type == "Attention":
        return node.domain == "com.microsoft"
    return node.op_type in WEIGHTED


def custom_operators(graph: onnx.GraphProto) -> list[str]:
    """Operators of domains that are neither ONNX's nor ONNX Runtime's, those of functions too.

    Nothing is known of the types they take but those that they are given.
    """
    nodes = (node for node in nodes_of(graph) if not node.domain.startswith(_KNOWN_DOMAINS))
    return sorted({node.op_type for node in nodes if node.domain not in ("", "ai.onnx")})


#: (operator, input of a weight) -> the axis of its output channels. Gemm depends on transB.
CHANNEL_AXES = {
    ("Conv", 1): 0,
    ("ConvTranspose", 1): 1,
    ("MatMul", 0): -2,
    ("MatMul", 1): -1,
    ("LSTM", 1): 1,
    ("LSTM", 2): 1,
    ("GRU", 1): 1,
    ("GRU", 2): 1,
    ("RNN", 1): 1,
    ("RNN", 2): 1,
    ("Gather", 0): -1,
}

#: Convolution -> the input that is its kernels [outputs, inputs / group, sizes...].
CONVOLUTION_KERNEL = {"Conv": 1, "ConvInteger": 1, "FusedConv": 1, "QLinearConv": 3}

#: Operator -> the inputs that may be a weight of two axes, as it is or quantized.
MATRIX_WEIGHTS = {
    "Gemm": (1,),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "DynamicQuantizeMatMul": (1,),
    "MatMulIntegerToFloat": (0, 1),
}

#: Operator -> the inputs that may be integers of whole bytes: weights, and biases in 32 bits.
INTEGER_WEIGHTS = {
    "DequantizeLinear": (0,),
    "MatMulInteger": (0, 1),
    "ConvInteger": (1,),
    "QLinearConv": (3, 8),
    "QLinearMatMul": (0, 3),
    "DynamicQuantizeLSTM": (1, 2),
    "DynamicQuantizeMatMul": (1,),
    "MatMulIntegerToFloat": (0, 1),
}

#: Operator -> the input that is a weight packed several elements to a byte.
PACKED_WEIGHT = {"GatherBlockQuantized": 0, "MatMulBnb4": 1, "MatMulNBits": 1}

# ----------------------------------------------------------------------- computing on integers

#: Operators that compute on integers themselves.
INTEGER_COMPUTE = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "QAttention",
        "QEmbedLayerNormalization",
        "QGemm",
        "QLinearConv",
        "QLinearMatMul",
    }
)

#: Operator whose products can saturate on x86 without VNNI -> (weight, its zero point) inputs.
SATURABLE_WEIGHTS: dict[str, tuple[tuple[int, int], ...]] = {
    "DynamicQuantizeLSTM": ((1, 9), (2, 11)),
    "DynamicQuantizeMatMul": ((1, 3),),
    "MatMulInteger": ((1, 3),),
    "MatMulIntegerToFloat": ((1, 5),),
    "QGemm": ((3, 5),),
    "QLinearConv": ((3, 5),),
    "QLinearMatMul": ((3, 5),),
}

#: Operator -> the inputs that are scales of what it reads; not those of its outputs.
OPERAND_SCALES = {
    "DequantizeLinear": (1,),
    "QLinearConv": (1, 4),
    "QLinearMatMul": (1, 4),
    "DynamicQuantizeLSTM": (8, 10),
    "DynamicQuantizeMatMul": (2,),
    "MatMulIntegerToFloat": (2, 3),
}

#: Operator -> the inputs that are scales and zero points, of what it reads and of what it gives.
SCALES_AND_ZERO_POINTS = {
    "ConvInteger": (2, 3),
    "DequantizeLinear": (1, 2),
    "DynamicQuantizeLSTM": (8, 9, 10, 11),
    "DynamicQuantizeMatMul": (2, 3),
    "GatherBlockQuantized": (2, 3),
    "MatMulBnb4": (2,),
    "MatMulInteger": (2, 3),
    "MatMulIntegerToFloat": (2, 3, 4, 5),
    "MatMulNBits": (2, 3, 4),
    "QAttention": (3, 4, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
}

# -------------------------------------------------------------------------------- biases

#: Operator -> the input that is a bias in floats, and that may be left out.
OPTIONAL_BIAS = {
    "Conv": 2,
    "ConvTranspose": 2,
    "Gemm": 2,
    "LayerNormalization": 2,
    "LSTM": 3,
    "GRU": 3,
    "RNN": 3,
    "DynamicQuantizeLSTM": 3,
}

#: Operator -> the input that is a bias in 32 bits, quantized with the weights.
INT32_BIAS = {"DequantizeLinear": 0, "QGemm": 6, "QLinearConv": 8}

# ---------------------------------------------------------------------- recurrent operators

#: Recurrent operator -> its number of gates, each with matrices of its own.
GATES = {"DynamicQuantizeLSTM": 4, "GRU": 3, "LSTM": 4, "RNN": 1}

#: Recurrent operator -> the default of its attribute `activations`, for one direction.
GATE_ACTIVATIONS = {
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "DynamicQuantizeLSTM": ("Sigmoid", "Tanh", "Tanh"),
    "GRU": ("Sigmoid", "Tanh"),
    "RNN": ("Tanh",),
}

# -------------------------------------------------------------------------------- shapes

#: ONNX Runtime's own operator -> a standard one of the same shapes, and which inputs it takes.
SHAPE_STAND_INS: dict[str, tuple[str, slice]] = {
    "BiasGelu": ("Identity", slice(1)),
    "DequantizeLinear": ("Identity", slice(1)),
    "DynamicQuantizeLSTM": ("LSTM", slice(8)),
    "DynamicQuantizeMatMul": ("MatMul", slice(2)),
    "FastGelu": ("Identity", slice(1)),
    "FusedConv": ("Conv", slice(3)),
    "FusedGemm": ("Gemm", slice(3)),
    "Gelu": ("Identity", slice(1)),
    "MatMulIntegerToFloat": ("MatMul", slice(2)),
    "QGemm": ("Gemm", slice(0, 4, 3)),
    "QLinearAdd": ("Add", slice(0, 4, 3)),
    "QLinearAveragePool": ("AveragePool", slice(1)),
    "QLinearConcat": ("Concat", slice(2, None, 3)),
    "QLinearGlobalAveragePool": ("GlobalAveragePool", slice(1)),
    "QLinearLeakyRelu": ("Identity", slice(1)),
    "QLinearMul": ("Mul", slice(0, 4, 3)),
    "QLinearSigmoid": ("Identity", slice(1)),
    "QLinearSoftmax": ("Identity", slice(1)),
    "QuantizeLinear": ("Identity", slice(1)),
    "QuickGelu": ("Identity", slice(1)),
    "SkipLayerNormalization": ("Identity", slice(1)),
}

# ------------------------------------------------------------------------------- examples

#: Operators that take one scale for all of a tensor from its own values.
_ONE_SCALE = frozenset(["DynamicQuantizeLSTM", "DynamicQuantizeLinear", "DynamicQuantizeMatMul"])


def shares_scale(path: Path) -> bool:
    """Whether the examples of a batch share a scale in an artefact, so that one changes another."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    return any(node.op_type in _ONE_SCALE for node in nodes_of(model.graph))
