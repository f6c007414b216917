"""Export: the same sources give the same bytes, wherever they lie."""

import sysconfig
from pathlib import Path

import onnx
import pytest
import torch

from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.checks.structure import measure
from pytest_onnxcheck.engine.convert.export import relocated
from pytest_onnxcheck.manifest import load_manifest
from pytest_onnxcheck.places import PACKAGE

NETS = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(4, 3)

    def forward(self, x):
        return torch.tanh(self.linear(x))
"""
MANIFEST = """
schema = 1
[models.net]
factory = "nets.py:Net"
dims.batch = [1, 3]
inputs.x.shape = ["batch", 4]
outputs.y.shape = ["batch", 3]
"""


def test_the_folder_is_not_in_the_artefact(tmp_path):
    built = []
    for name in ("here", "there"):
        root = tmp_path / name
        root.mkdir()
        (root / "nets.py").write_text(NETS)
        (root / "models.toml").write_text(MANIFEST)
        builds = Builds(root / "artefacts")
        model = load_manifest(root / "models.toml").models["net"]
        built.append(builds.artefact(builds.reference(model), model.variants[0]))
    assert built[0].sha256 == built[1].sha256
    graph = onnx.load(built[0].path).graph
    traces = [entry.value for node in graph.node for entry in node.metadata_props]
    assert any('File "nets.py", line' in trace for trace in traces)
    assert not any(str(tmp_path) in trace for trace in traces)


WRAPPED = """
import torch


class Net(torch.nn.Module):
    def forward(self, x, *others):
        return x + others[0] * others[1]
"""


def test_what_args_takes_is_dynamic_too(tmp_path):
    """Wrappers pass their inputs on so; torch.export wants the shapes of all of them as one."""
    (tmp_path / "nets.py").write_text(WRAPPED)
    others = 'inputs.a.shape = ["batch", 4]\ninputs.b.shape = ["batch", 1]\n'
    text = MANIFEST.replace('outputs.y.shape = ["batch", 3]', 'outputs.y.shape = ["batch", 4]')
    (tmp_path / "models.toml").write_text(text + others)
    builds = Builds(tmp_path / "artefacts")
    model = load_manifest(tmp_path / "models.toml").models["net"]
    reference = builds.reference(model)
    found = measure(builds.artefact(reference, model.variants[0]), reference, model.variants[0])
    assert {spec.name: spec.shape for spec in found.inputs} == {
        "x": ("batch", 4),
        "a": ("batch", 4),
        "b": ("batch", 1),
    }


ATTENTION = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.bias = torch.nn.Embedding(8, 2)  # as T5's of relative positions, it is trained

    def forward(self, x):
        batch, places = x.shape[0], torch.arange(3)
        query = x.view(batch, 3, 2, 4).transpose(1, 2)
        bias = self.bias(places[None] - places[:, None] + 3).permute(2, 0, 1)[None]
        attend = torch.nn.functional.scaled_dot_product_attention
        y = attend(query, query, query, attn_mask=bias).transpose(1, 2).contiguous()
        return y.reshape(batch, 3, -1)
"""


def test_attention_with_a_bias_that_is_trained_exports(tmp_path):
    """With gradients, torch 2.13 captures it in one layout and decomposes it in another."""
    (tmp_path / "nets.py").write_text(ATTENTION)
    text = MANIFEST.replace('["batch", 4]', '["batch", 3, 8]')
    (tmp_path / "models.toml").write_text(text.replace('["batch", 3]', '["batch", 3, 8]'))
    builds = Builds(tmp_path / "artefacts")
    model = load_manifest(tmp_path / "models.toml").models["net"]
    built = builds.artefact(builds.reference(model), model.variants[0])
    assert any(node.op_type == "Softmax" for node in onnx.load(built.path).graph.node)


RANDOM = """
import random

import torch


class Torchs(torch.nn.Module):
    def forward(self, x):
        return x + torch.randn_like(x)


class Dropping(torch.nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout(x, training=True)


class Pythons(torch.nn.Module):
    def forward(self, x):
        return x + random.random()
"""


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_what_torch_draws_is_drawn_anew_in_the_artefact_and_what_python_gives_is_constant(
    tmp_path, exporter
):
    """What the oracle says of a reference that is random."""
    (tmp_path / "nets.py").write_text(RANDOM)
    shapes = "inputs.x.shape = [2, 4]\noutputs.y.shape = [2, 4]\n"
    text = f'schema = 1\ndefaults.exporters = ["{exporter}"]\n'
    for name in ("Torchs", "Dropping", "Pythons"):
        text += f'[models.{name}]\nfactory = "nets.py:{name}"\n{shapes}'
    (tmp_path / "models.toml").write_text(text)
    builds, drawn, training = Builds(tmp_path / "artefacts"), {}, {}
    for name, model in load_manifest(tmp_path / "models.toml").models.items():
        reference, (variant,) = builds.reference(model), model.variants
        found = measure(builds.artefact(reference, variant), reference, variant)
        drawn[name], training[name] = len(found.random), len(found.training)
    assert drawn == {"Torchs": 1, "Dropping": 0, "Pythons": 0}
    assert training == {"Torchs": 0, "Dropping": 1, "Pythons": 0}


def test_a_trace_names_what_is_installed_and_what_is_pythons_from_there_on(tmp_path):
    def frame(file):
        return f'File "{file}", line 7, in forward\n    return x'

    torchs = Path(torch.__file__)
    pythons = Path(sysconfig.get_path("stdlib"), "contextlib.py")
    given = [tmp_path / "a" / "nets.py", torchs, pythons, PACKAGE / "files.py", "/other/nets.py"]
    short = ["a/nets.py", "site-packages/torch/__init__.py", "<python>/contextlib.py"]
    short += ["site-packages/pytest_onnxcheck/files.py", "/other/nets.py"]
    trace = "\n".join(map(frame, given))
    assert relocated(trace, tmp_path) == "\n".join(map(frame, short))
