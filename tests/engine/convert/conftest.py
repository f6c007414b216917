"""Small nets, and their artefacts in each precision, built once for all tests of convert."""

import dataclasses

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.convert.quantize import quantize
from pytest_onnxcheck.engine.inputs.calibration import CalibrationData
from pytest_onnxcheck.engine.inputs.cases import example
from pytest_onnxcheck.engine.runtime.session import open_session
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.manifest.targets import CPU
from pytest_onnxcheck.measurement import CalibrationMeasurement

NETS = """
import torch
import torch.nn.functional as F
from torch import nn


def convolutional():
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 16),
    )


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(48)
        self.query, self.key, self.value = nn.Linear(48, 48), nn.Linear(48, 48), nn.Linear(48, 48)
        self.up, self.down = nn.Linear(48, 96), nn.Linear(96, 48)

    def forward(self, x):
        h = self.norm(x)
        weights = torch.softmax(self.query(h) @ self.key(h).transpose(-1, -2) / 7, -1)
        x = x + weights @ self.value(h)
        return x + self.down(F.gelu(self.up(x)))


class Wide(nn.Module):
    "Beyond float16, not beyond bfloat16: a weight, and a constant of the graph."

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)
        nn.init.constant_(self.linear.bias, 1e6)

    def forward(self, x):
        return torch.where(x > 0, self.linear(x), torch.full_like(x, -1e9))


class Fork(nn.Module):
    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        y = torch.relu(x)
        return self.left(y) + self.right(y)


class Attend(nn.Module):
    "At opset 23 the product is one Attention, ONNX's own."

    def __init__(self):
        super().__init__()
        self.query, self.last = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        heads = self.query(x).reshape(x.shape[0], 6, 2, 8).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(heads, heads, heads)
        return self.last(mixed.transpose(1, 2).reshape(x.shape[0], 6, 16))


class CastsBack(nn.Module):
    "Two outputs, of which one is float32 whatever the weights are."

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        y = self.linear(x)
        return y, torch.softmax(y.float(), -1)


class InFloat32(nn.Module):
    def forward(self, x):
        return x @ torch.eye(8)


def mlp():
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8))
"""

MANIFEST = """
schema = 1
[defaults]
exporters = ["torchscript", "dynamo"]
opsets = [20]
precisions = ["fp32", "fp16", "bf16", "half", "int8-dynamic", "int8-static", "int4-weight"]

[models.convolutional]
factory = "nets_quantize.py:convolutional"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 1, 12, 12]
outputs.y.shape = ["batch", 16]

[models.block]
factory = "nets_quantize.py:Block"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 5, 48]
outputs.y.shape = ["batch", 5, 48]

[models.wide]
factory = "nets_quantize.py:Wide"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]

[models.fork]
factory = "nets_quantize.py:Fork"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]

[models.attend]
factory = "nets_quantize.py:Attend"
opsets = [23]
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 6, 16]
outputs.y.shape = ["batch", 6, 16]

[models.casts_back]
factory = "nets_quantize.py:CastsBack"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]
outputs.shares.shape = ["batch", 8]

[models.in_float32]
factory = "nets_quantize.py:InFloat32"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]

[models.mlp]
factory = "nets_quantize.py:mlp"
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]

[models.early]
factory = "nets_quantize.py:mlp"
opsets = [12]
exporters = ["torchscript"]
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 8]
"""


class Made:
    """An artefact, and what belongs to it."""

    def __init__(self, reference, variant, artefact):
        self.reference, self.variant, self.artefact = reference, variant, artefact
        self.model = onnx.shape_inference.infer_shapes(onnx.load(artefact.path))
        self.graph = self.model.graph
        self.operators = {node.op_type for node in self.graph.node}
        self.tensors = {tensor.name: tensor for tensor in self.graph.initializer}

    def nodes(self, operator):
        return [node for node in self.graph.node if node.op_type == operator]

    def type_of(self, name):
        """ONNX's name of the type of a value."""
        values = (*self.graph.input, *self.graph.output, *self.graph.value_info)
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        types |= {name: tensor.data_type for name, tensor in self.tensors.items()}
        return TensorProto.DataType.Name(types[name])

    def constants(self, ending, *types):
        """The weights whose name ends so, of these types."""
        return [
            numpy_helper.to_array(tensor)
            for name, tensor in self.tensors.items()
            if name.endswith(ending)
            and (not types or TensorProto.DataType.Name(tensor.data_type) in types)
        ]

    def quantized(self):
        """Weights and their scales, as the nodes read them: tools differ in how they name them."""
        readers = {name: node for node in self.graph.node for name in node.input}
        made = {name: node for node in self.graph.node for name in node.output}
        for node in self.nodes("DequantizeLinear"):
            weight, scale = (self.tensors.get(name) for name in node.input[:2])
            if weight is not None and len(weight.dims) > 1:  # else an activation, or a bias
                yield numpy_helper.to_array(weight), numpy_helper.to_array(scale)
        for node in self.nodes("MatMulInteger"):
            product = readers[made[node.input[0]].output[1]]  # of the activation's scale
            (scale,) = (self.tensors[name] for name in product.input if name in self.tensors)
            weight = self.tensors[node.input[1]]
            yield numpy_helper.to_array(weight), numpy_helper.to_array(scale)

    def pair(self):
        """PyTorch's output on the example, and the artefact's."""
        inputs = example(self.reference)
        (expected,) = self.reference.run(inputs)
        (found,) = open_session(self.artefact, CPU).run(inputs)
        return expected, found

    def loss(self):
        """The relative root mean square error on the example."""
        expected, found = self.pair()
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture(scope="session")
def project(tmp_path_factory):
    root = tmp_path_factory.mktemp("nets_quantize")
    (root / "nets_quantize.py").write_text(NETS, encoding="utf-8")
    (root / "models.toml").write_text(MANIFEST, encoding="utf-8")
    return load_manifest(root / "models.toml").models, Builds(root / "artefacts")


@pytest.fixture(scope="session")
def make(project):
    """Builds `NET-EXPORTER` in a precision with options."""

    def make(name, precision, **options):
        models, builds = project
        net, _, exporter = name.partition("-")
        exporter = exporter or "torchscript"
        model = models[net]
        (variant,) = [
            v for v in model.variants if (v.exporter, v.precision) == (exporter, precision)
        ]
        quantization = variant.quantization.model_copy(update=options)
        variant = dataclasses.replace(variant, quantization=quantization)
        reference = builds.reference(model)
        return Made(reference, variant, builds.artefact(reference, variant))

    return make


@pytest.fixture
def make_from(project, tmp_path):
    """Builds int8-static of the torchscript mlp from calibration batches given here."""

    def make_from(batches, **options):
        models, builds = project
        model = models["mlp"]
        (variant,) = [v for v in model.variants if v.name == "torchscript-op20-int8-static"]
        variant = dataclasses.replace(
            variant, quantization=variant.quantization.model_copy(update=options)
        )
        reference = builds.reference(model)
        source = builds.float_artefact(reference, variant).path
        measured = CalibrationMeasurement("this test", len(batches), "0" * 64)
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx"
        quantize(reference, variant, source, path, CalibrationData(batches, measured))
        return {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}

    return make_from
