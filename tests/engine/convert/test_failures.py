"""A failed export says the user's line first, the message next and the graph last, cut."""

import pytest

from pytest_onnxcheck.engine.convert.export import export
from pytest_onnxcheck.engine.reference.load import load_reference
from pytest_onnxcheck.errors import ExportError
from pytest_onnxcheck.manifest import load_manifest

NETS = """
import torch
from torch import nn


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x


class Fixed(nn.Module):
    def forward(self, x):
        return x.view(2, 4) * 2


class Values(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(*[nn.Linear(4, 4) for _ in range(20)])

    def forward(self, x):
        x = self.layers(x)
        return torch.linalg.eigvals(x @ x.T).real


class Inner(nn.Module):
    def __init__(self):
        super().__init__()
        self.branches = Branches()

    def forward(self, x):
        return self.branches(x)
"""


@pytest.fixture
def failed(tmp_path):
    """What is said of an export that fails."""
    (tmp_path / "nets.py").write_text(NETS, encoding="utf-8")

    def run(net, exporter):
        (tmp_path / "models.toml").write_text(
            f'schema = 1\n[models.net]\nfactory = "nets.py:{net}"\nexporters = ["{exporter}"]\n'
            'dims.batch = [2]\ninputs.x.shape = ["batch", 4]\noutputs.y.shape = ["batch", 4]\n',
            encoding="utf-8",
        )
        model = load_manifest(tmp_path / "models.toml").models["net"]
        with pytest.raises(ExportError) as caught:
            export(load_reference(model), model.variants[0], tmp_path / "net.onnx")
        return str(caught.value)

    return run


def line(text):
    return next(n for n, source in enumerate(NETS.splitlines(), 1) if text in source)


def test_a_branch_on_values_says_where_and_what_to_do(failed, tmp_path):
    said = failed("Branches", "dynamo").splitlines()
    assert said[0] == (
        f"net: dynamo export at opset 20 failed: {tmp_path / 'nets.py'}:{line('if x.sum')} in "
        "forward: `if x.sum() > 0:`"
    )
    assert said[1].startswith("GuardOnDataDependentSymNode: Could not guard on data-dependent")
    assert said[1].endswith(
        ". forward takes another way for other values of its inputs, and a graph has one: compute "
        "both and choose with torch.where, or use torch.cond"
    )
    assert "TORCH" not in said[1]


def test_the_innermost_line_of_the_user_comes_first_and_the_others_behind(failed, tmp_path):
    said = failed("Inner", "dynamo").splitlines()
    assert said[0].endswith("in forward: `if x.sum() > 0:`")
    assert said[2:] == [
        f"  {tmp_path / 'nets.py'}:{line('return self.branches(x)')} in forward",
        f"  {tmp_path / 'nets.py'}:{line('if x.sum')} in forward",
    ]


def test_a_dim_that_forward_fixes_says_so(failed):
    said = failed("Fixed", "dynamo")
    assert "forward takes no other size than 2 in dim 0 of x (a size written in view or" in said
    assert "let it follow x.shape, or write 2 in inputs.x.shape" in said


def test_an_operator_that_dynamo_cannot_translate_says_the_line_it_stands_in(failed, tmp_path):
    said = failed("Values", "dynamo").splitlines()
    assert said[0].endswith(
        f"nets.py:{line('linalg')} in forward: `return torch.linalg.eigvals(x @ x.T).real`"
    )
    assert said[1].startswith("DispatchError: No ONNX function found for <OpOverload(op='aten.lin")


def test_an_operator_that_torchscript_cannot_translate_says_line_and_graph(failed, capfd):
    said = failed("Values", "torchscript").splitlines()
    assert capfd.readouterr().out == ""
    assert said[0].endswith(
        f"nets.py:{line('linalg')}: `return torch.linalg.eigvals(x @ x.T).real`"
    )
    assert said[1].startswith("UnsupportedOperatorError: Exporting the operator 'aten::linalg_eig")
    title = next(n for n, text in enumerate(said) if text.startswith("The exporter's graph, "))
    assert said[title].startswith("The exporter's graph, the last 12 of ")
    assert len(said) - title == 13
    assert said[-1].startswith("  return (%")
    assert max(map(len, said[title:])) <= 162
