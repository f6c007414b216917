"""The stripped file beside the artefact: bits, paths that are left, and what both are made from."""

from __future__ import annotations

import dataclasses

import onnx
import pytest

from pytest_onnxcheck import judge
from pytest_onnxcheck.engine.artefacts.artefact import Artefact
from pytest_onnxcheck.engine.builds import Builds
from pytest_onnxcheck.engine.checks import release
from pytest_onnxcheck.manifest import load_manifest

NETS = """
import inner_release


def net():
    return inner_release.Net().eval()
"""
INNER = """
import torch


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(8, 4)

    def forward(self, x):
        return self.linear(x).relu()
"""
MANIFEST = """
schema = 1
[models.net]
factory = "nets_release.py:net"
exporters = ["torchscript"]
opsets = [17]
dims = { batch = [1, 3] }
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
release.variant = "torchscript-op17-fp32"
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("release")


@pytest.fixture(scope="session")
def measured(folder):
    """Measures the stripped file, which a function may have changed before."""
    (folder / "nets_release.py").write_text(NETS)
    (folder / "inner_release.py").write_text(INNER)
    (folder / "models.toml").write_text(MANIFEST)

    def measure(change=None):
        model = load_manifest(folder / "models.toml").models["net"]
        (variant,) = model.variants
        builds = Builds(folder / ".onnxcheck")
        reference = builds.reference(model)
        artefact, stripped = (
            builds.artefact(reference, variant),
            builds.stripped(reference, variant),
        )
        if change is not None:
            changed = onnx.load(stripped.path)
            change(changed)
            onnx.save(changed, folder / "changed.onnx")
            stripped = Artefact.given(folder / "changed.onnx")
        return release.measure(stripped, artefact, reference, variant, model.target("cpu"))

    return measure


def test_a_stripped_file_gives_the_artefacts_bits(measured):
    found = measured()
    assert (found.cases, found.differing, found.leaks) == (2, (), ())
    assert (found.architecture, found.parameters) == ("Net", 36)
    assert found.opsets == {"ai.onnx": 17}
    assert found.oldest_onnxruntime == "1.12"
    assert found.producer.startswith("pytorch")
    assert found.removed["metadata_props"] == 0  # the TorchScript exporter writes none
    assert judge.release(found).findings == ()


def test_the_code_that_it_is_made_from_is_followed_through_imports(measured):
    assert [file.name for file in measured().sources] == ["inner_release.py", "nets_release.py"]


def test_other_bits_are_red(measured):
    def other_weight(model):
        weight = next(one for one in model.graph.initializer if len(one.dims) == 1)
        values = onnx.numpy_helper.to_array(weight) + 1e-6
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    found = measured(other_weight)
    assert found.differing[0].startswith("batch=1/draw0: output 'y': ")
    assert found.differing[0].endswith(" of 4 elements")
    assert judge.release(found).reason.startswith(
        "bits [cpu]: without doc strings and metadata the file gives other outputs than the "
        "artefact, allowed are none: batch=1/draw0: output 'y': "
    )


def test_a_path_of_this_machine_that_is_left_is_red(measured, folder):
    def in_the_models_own_metadata(model):
        model.metadata_props.add(key="made from", value=f"{folder}/net.pt")

    found = measured(in_the_models_own_metadata)
    assert found.leaks == (f"{folder}/net.pt"[:100],)
    assert "paths of this machine are left in the file" in judge.release(found).reason


def test_an_invalid_file_and_one_that_was_never_run_are_red(measured):
    found = measured()
    broken = dataclasses.replace(
        found, cases=0, file=dataclasses.replace(found.file, checker_error="no opset")
    )
    texts = [str(finding) for finding in judge.release(broken).findings]
    assert any("the file is not valid ONNX: no opset" in text for text in texts)
    assert any("no case was run" in text for text in texts)


def test_a_failure_is_known_by_the_question_that_is_asked_of_all(measured):
    found = dataclasses.replace(measured(), leaks=("/home/someone/net.pt",))
    assert "/home/someone/net.pt" in judge.failure(found, None)
