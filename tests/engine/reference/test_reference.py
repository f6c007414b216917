"""What a reference gives: the outputs that the manifest wants, and what it is made of."""

import sys

import pytest
import torch

from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.errors import InputError
from pytest_onnxcheck.manifest import load_manifest

NET = """
import torch


class Net(torch.nn.Module):
    def forward(self, x, offset=0, sizes=None):
        return {"logits": x + offset, "hidden": (x * 2, [x * 3])}


def make():
    return Net().eval()
"""


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "net.py").write_text(NET, encoding="utf-8")

    def run(outputs, more=""):
        (tmp_path / "models.toml").write_text(
            f'schema = 1\n[models.net]\nfactory = "net.py:make"\n{more}\n'
            f"inputs.x.shape = [2]\n{outputs}\n",
            encoding="utf-8",
        )
        return load_reference(load_manifest(tmp_path / "models.toml").models["net"])

    return run


def given(reference):
    return [output.tolist() for output in reference.run({"x": torch.ones(2)})]


def test_outputs_are_found_by_path_in_the_manifests_order_and_others_left_out(load):
    reference = load(
        'outputs.deep = { shape = [2], path = "hidden.1.0" }\noutputs.logits.shape = [2]'
    )
    assert given(reference) == [[3, 3], [1, 1]]


def test_without_paths_all_tensors_are_outputs(load):
    reference = load("".join(f"outputs.{name}.shape = [2]\n" for name in "abc"))
    assert given(reference) == [[1, 1], [2, 2], [3, 3]]


def test_a_path_that_is_not_there_is_told_with_those_that_are(load):
    with pytest.raises(
        InputError,
        match=r"net: output 'deep': forward returns nothing at 'hidden.1' \(did you mean "
        r"'hidden.1.0'\? there are: logits, hidden.0, hidden.1.0\)",
    ):
        given(load('outputs.deep = { shape = [2], path = "hidden.1" }'))


def test_another_number_of_outputs_tells_of_path(load):
    with pytest.raises(InputError, match=r"PyTorch returns 3 tensors .* give them the key `path`"):
        given(load("outputs.logits.shape = [2]"))


def test_where_pytorch_does_not_run_numbers_that_are_inputs_are_told_of(load):
    reference = load(
        'outputs.logits = { path = "logits", shape = [2] }',
        'inputs.offset = { shape = [], dtype = "int64", range = [0, 7] }',
    )
    with pytest.raises(
        InputError,
        match=r"\(inputs are tensors; a number or flag that is not a tensor can be given as a "
        r"constant, in place of the input: arguments = \{ offset = 2 \}\)",
    ):
        reference.run({"x": torch.ones(2), "offset": torch.ones(3)})


def test_constants_and_containers_are_in_the_fingerprint(load):
    output = 'outputs.logits = { path = "logits", shape = [2] }'
    made = {
        load(output, more).fingerprint
        for more in (
            "",
            "arguments = { sizes = [1] }",
            "arguments = { sizes = [2] }",
            'arguments = { sizes = [2] }\ncontainers.sizes = "tuple"',
        )
    }
    assert len(made) == 4
