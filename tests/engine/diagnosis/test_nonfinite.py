"""The first NaN is named with its layer, in any precision, and infinities where there is none."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.diagnosis.nonfinite import first_nonfinite
from pytest_onnxcheck.engine.inputs.cases import Case
from pytest_onnxcheck.engine.oracle.oracle import Oracle
from pytest_onnxcheck.manifest import load_manifest

NETS = """
import torch
from torch import nn
from torch.nn import functional as F


class Unit(nn.Module):
    def forward(self, x):
        return F.normalize(x, dim=-1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.unit = nn.Linear(6, 4, bias=False), Unit()
        self.last = nn.Linear(4, 2)

    def forward(self, x, mask):
        # a mask's infinities are meant, and are no fault
        weights = torch.softmax(torch.where(mask > 0, 0.0, float("-inf")).to(x.dtype), dim=-1)
        return self.last(self.unit(self.first(x)) * weights)
"""
MODEL = """
schema = 1
[models.net]
factory = "nets_nonfinite.py:Net"
exporters = ["dynamo", "torchscript"]
opsets = [18]
precisions = ["fp32", "half"]
dims = { batch = [2, 3] }
inputs.x.shape = ["batch", 6]
inputs.mask = { shape = ["batch", 4], fill = "constant", value = 1 }
outputs.y.shape = ["batch", 2]
"""


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """The oracle, the paths of the artefacts by precision, and a case with a row of zeros."""
    root = tmp_path_factory.mktemp("nets")
    (root / "nets_nonfinite.py").write_text(NETS, encoding="utf-8")
    (root / "models.toml").write_text(MODEL, encoding="utf-8")
    (model,) = load_manifest(root / "models.toml").models.values()
    builds = Builds(root / "artefacts")
    reference = builds.reference(model)
    variants = [v for v in model.variants if (v.exporter, v.precision) != ("torchscript", "fp32")]
    paths = {(v.exporter, v.precision): builds.artefact(reference, v).path for v in variants}
    x = np.random.default_rng(0).standard_normal((3, 6)).astype(np.float32)
    x[1] = 0
    mask = np.ones((3, 4), np.float32)
    mask[:, 3] = 0
    return Oracle(reference), paths, Case("padded", {"x": x, "mask": mask})


def onnx_node(path, name):
    (node,) = (node for node in onnx.load(path).graph.node if node.name == name)
    return node


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_the_first_nan_of_half_is_named_with_its_layer_and_why(net, exporter):
    oracle, paths, case = net
    found = first_nonfinite(paths[exporter, "half"], oracle, case, safety=8)
    assert (found.operator, found.torch_operator, found.module) == ("Div", "aten.div", "unit")
    assert "nets_nonfinite.py:9" in found.source
    numerator, denominator = list(onnx_node(paths[exporter, "half"], found.node).input)
    assert found.note == (
        f"NaN in 4 of 12 elements, and what it reads holds none: at [1, 0] {numerator!r} is 0, "
        f"{denominator!r} is 0 (PyTorch has 1e-12); float16 has no number that small: use a "
        "larger one (an eps), or keep this in float32"
    )


def test_where_nothing_is_nan_nothing_is_named_though_a_mask_is_infinite(net):
    oracle, paths, case = net
    assert first_nonfinite(paths["dynamo", "fp32"], oracle, case, safety=8) is None


def test_an_infinity_that_reaches_an_output_is_named_where_there_is_no_nan(net, tmp_path):
    oracle, paths, case = net
    model = onnx.load(paths["dynamo", "fp32"])
    add = next(node for node in model.graph.node if "y" in node.output)
    add.output[0] = "before"
    model.graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    model.graph.node.append(helper.make_node("Div", ["before", "zero"], ["y"], "divided"))
    onnx.save(model, tmp_path / "model.onnx")
    found = first_nonfinite(tmp_path / "model.onnx", oracle, case, safety=8)
    assert (found.node, found.operator) == ("divided", "Div")
    assert found.note.startswith("infinity in 6 of 6 elements, and what it reads holds none: at")
    assert "'zero' is 0" in found.note
