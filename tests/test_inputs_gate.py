"""What models are fed with: masks as tokenizers give them, and every size of a dim."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from project import Project

NETS = '''
import torch
import torch.nn.functional as F
from torch import nn


class Encoder(nn.Module):
    """As BERT: an embedding, attention that a mask is for, and a head."""

    def __init__(self, keeps=True):
        super().__init__()
        self.keeps = keeps
        self.tokens, self.types = nn.Embedding(100, 16), nn.Embedding(2, 16)
        self.projection, self.norm = nn.Linear(16, 48), nn.LayerNorm(16)
        self.head = nn.Linear(16, 3)

    def forward(self, input_ids, attention_mask, token_type_ids):
        x = self.tokens(input_ids) + self.types(token_type_ids)
        parts = self.projection(x).view(*x.shape[:2], 3, 2, 8)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        kept = attention_mask.bool() if self.keeps else ~attention_mask.bool()
        found = F.scaled_dot_product_attention(query, key, value, kept[:, None, None])
        x = self.norm(x + found.transpose(1, 2).reshape(x.shape))
        return self.head(x)


def encoder():
    return Encoder().eval()


def padded():
    return Encoder(keeps=False).eval()


class Attention(nn.Module):
    def forward(self, x, attention_mask):
        kept, heads = attention_mask.bool()[:, None, None], x[:, None]
        return F.scaled_dot_product_attention(heads, heads, heads, kept)[:, 0]


class Ignoring(Attention):
    def forward(self, x, attention_mask):
        return super().forward(x, 1 - attention_mask)


def attention():
    return Attention().eval()


def ignoring():
    return Ignoring().eval()


class Headed(nn.Module):
    """What the first element is masked of is zero."""

    def forward(self, x, attention_mask):
        return x * attention_mask[:, :1, None]


def headed():
    return Headed().eval()


class Added(nn.Module):
    def __init__(self):
        super().__init__()
        self.projection = nn.Linear(8, 24)

    def forward(self, x, bias):
        query, key, value = self.projection(x).view(*x.shape[:2], 3, 8).unbind(2)
        scores = query @ key.transpose(1, 2) / 8**0.5 + bias[:, 0]
        return torch.softmax(scores, -1) @ value


def added():
    return Added().eval()


class Even(nn.Module):
    """Pads where a size leaves a remainder of 1; a tracer that saw another size does not."""

    def __init__(self, every):
        super().__init__()
        self.conv, self.every = nn.Conv2d(1, 2, 3, padding=1), every

    def forward(self, x):
        if x.shape[2] % self.every == 1:
            x = F.pad(x, (0, 0, 0, 1))
        return self.conv(x)


def even(every):
    return Even(every).eval()
'''

#: as dynamo exports it: rows that mask everything give an average, where PyTorch gives zeros
ATTENTION = """
<ir_version: 10, opset_import: ["" : 20]>
attention (float[batch,time,4] x, int64[batch,time] MASK) => (float[batch,time,4] y) {
    turned = Transpose <perm = [0, 2, 1]> (x)
    products = MatMul(x, turned)
    half = Constant <value = float {0.5}> ()
    scores = Mul(products, half)
    none = Constant <value = int64 {0}> ()
    masked = Equal(MASK, none)
    one = Constant <value = int64[1] {1}> ()
    rows = Unsqueeze(masked, one)
    least = Constant <value = float {-3.4e38}> ()
    left = Where(rows, least, scores)
    shares = Softmax <axis = -1> (left)
    y = MatMul(shares, x)
}
"""

#: as `Headed` is where rows are padded on the right only
HEADED = """
<ir_version: 10, opset_import: ["" : 20]>
headed (float[batch,time,4] x, int64[batch,time] attention_mask) => (float[batch,time,4] y) {
    y = Identity(x)
}
"""

ENCODER = """
inputs.input_ids = { shape = ["batch", "time"], dtype = "int64", range = [0, 99] }
inputs.MASK = { shape = ["batch", "time"], WRITTEN }
inputs.token_type_ids = { shape = ["batch", "time"], dtype = "int64", range = [0, 1] }
outputs.y.shape = ["batch", "time", 3]
dims = { batch = [1, 3], time = [1, 9] }
"""

GIVEN = """
factory = "inputs.py:attention"
inputs.x = { shape = ["batch", "time", 4] }
inputs.MASK = { shape = ["batch", "time"], WRITTEN }
outputs.y.shape = ["batch", "time", 4]
dims = { batch = [1, 3], time = [1, 9] }
onnx = "MASK.onnx"
"""

IMAGE = """
inputs.x.shape = [1, 1, "height", "width"]
outputs.y.shape = [1, 2, "rows", "width"]
"""


def masked(text: str, written: str, mask: str = "attention_mask") -> str:
    return text.replace("MASK", mask).replace("WRITTEN", written)


INTEGERS = 'dtype = "int64", range = [0, 1]'

MODELS = {
    "first": masked(ENCODER, INTEGERS)
    + 'factory = "inputs.py:encoder"\nexporters = ["dynamo", "torchscript"]\nopsets = [18]',
    "true_masks": masked(ENCODER, 'dtype = "bool"', "key_padding_mask")
    + 'factory = "inputs.py:padded"',
    "given": masked(GIVEN, INTEGERS),
    "rows": masked(GIVEN, 'dtype = "int64", fill = "mask", empty_rows = true'),
    "unnamed": masked(GIVEN, INTEGERS, "keep"),
    "ignored": masked(GIVEN.replace(":attention", ":ignoring"), INTEGERS, "ignored_mask"),
    "own": masked(GIVEN, INTEGERS) + 'cases.empty.file = "empty.npz"',
    **{
        f"headed_{padding or 'untold'}": masked(
            GIVEN.replace("attention", "headed").replace('"MASK.onnx"', '"headed.onnx"'),
            f'dtype = "int64", fill = "mask", padding = "{padding}"' if padding else INTEGERS,
        )
        for padding in ("", "right", "any")
    },
    "added": 'factory = "inputs.py:added"\ndims.time = [2, 9]\n'
    'inputs.x.shape = [2, "time", 8]\noutputs.y.shape = [2, "time", 8]\n'
    'inputs.bias = { shape = [2, 1, "time", "time"], fill = "mask", masked = -inf, '
    'padding = "causal" }',
    "ranged": 'factory = "inputs.py:even"\nkwargs.every = 16\n'
    "dims = { height = { from = 16, to = 80 }, width = [4], rows = [1] }" + IMAGE,
    "listed": 'factory = "inputs.py:even"\nkwargs.every = 16\n'
    "dims = { height = [16, 80], width = [4], rows = [1] }" + IMAGE,
    "steps": 'factory = "inputs.py:even"\nkwargs.every = 16\n'
    "dims = { height = { from = 16, to = 80, step = 8 }, width = [4], rows = [1] }" + IMAGE,
    "smooth": 'factory = "inputs.py:even"\nkwargs.every = 1000\n'
    "dims = { height = { from = 16, to = 80 }, width = [4], rows = [1] }" + IMAGE,
}


@pytest.fixture(scope="module")
def fed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One run over models whose inputs are masks, or of many sizes."""
    project = Project(tmp_path_factory.mktemp("inputs"))
    (project.path / "inputs.py").write_text(NETS)
    for mask in ("attention_mask", "keep"):
        model = onnx.parser.parse_model(ATTENTION.replace("MASK", mask))
        onnx.save(model, project.path / f"{mask}.onnx")
    for node in model.graph.node:
        node.op_type = {"Equal": "Greater"}.get(node.op_type, node.op_type)
        node.input[:] = ["ignored_mask" if name == "keep" else name for name in node.input]
    model.graph.input[1].name = "ignored_mask"
    onnx.save(model, project.path / "ignored_mask.onnx")
    onnx.save(onnx.parser.parse_model(HEADED), project.path / "headed.onnx")
    empty = np.int64([[1, 1, 1], [0, 0, 0]])
    x = np.arange(24, dtype="float32").reshape(2, 3, 4) / 8
    np.savez(project.path / "empty.npz", x=x, attention_mask=empty)
    project.manifest("\n".join(f"[models.{name}]\n{lines}" for name, lines in MODELS.items()))
    project.run("-m", "equivalence")
    return project


def found(project: Project, model: str) -> dict:
    return checks(project, model)[0]


def checks(project: Project, model: str) -> list[dict]:
    return [check for check in project.record["checks"] if check["model"] == model]


@pytest.mark.parametrize("model", ["first", "true_masks", "given", "added"])
def test_a_first_manifest_of_a_model_with_a_mask_passes(fed: Project, model: str):
    for check in checks(fed, model):
        assert (check["outcome"], check["grade"], check["reason"]) == ("passed", "pass", "")
        assert any("probe:mask" in case["case"] for case in check["measurement"]["cases"])


MEND = (
    "if they do, mend the model: masked by a finite score (-1e4 in place of -inf), such rows give "
    "the same in both"
)


def test_rows_that_mask_everything_fail_where_they_occur(fed: Project):
    check = found(fed, "rows")
    assert check["outcome"] == "failed"
    assert check["reason"].startswith("input 'attention_mask' [probe:mask all false/")
    assert "]: only cases with rows that mask everything fail (2 of 2; all " in check["reason"]
    assert check["reason"].endswith(
        " others pass), where PyTorch and ONNX may lawfully differ. If they do not occur, take out "
        f"empty_rows = true; {MEND}"
    )


def test_what_may_be_a_mask_is_asked_about(fed: Project):
    check = found(fed, "unnamed")
    assert check["outcome"] == "failed"
    assert check["reason"].startswith("input 'keep' [")
    assert "]: looks like a mask: only cases with rows of zeros fail (" in check["reason"]
    assert check["reason"].endswith(
        f'If they do not occur, give it fill = "mask", which draws none; {MEND}'
    )


def test_such_rows_in_a_case_of_the_users_own_fail_and_are_told(fed: Project):
    check = found(fed, "own")
    assert check["outcome"] == "failed"
    assert check["reason"].startswith(
        "input 'attention_mask' [case:empty]: only cases with rows that mask everything fail "
        "(1 of 1; "
    )
    assert "If they do not occur, take them out of these cases; " in check["reason"]


def test_a_mask_that_the_model_takes_the_other_way_round_is_asked_about(fed: Project):
    check = found(fed, "ignored")
    assert check["outcome"] == "failed"
    assert check["reason"].startswith("input 'ignored_mask' [")
    assert check["reason"].endswith(
        " do not, as if such rows masked everything: say which value masks (masked = true, or "
        "false)"
    )


def test_padding_that_is_not_declared_only_warns(fed: Project):
    untold, right, every = (found(fed, f"headed_{name}") for name in ("untold", "right", "any"))
    assert (right["outcome"], right["grade"], right["reason"]) == ("passed", "pass", "")
    assert every["outcome"] == "failed"
    assert every["reason"].startswith("output 'y' error [probe:mask left padding/")
    assert (untold["outcome"], untold["grade"]) == ("passed", "warn")
    assert untold["reason"].startswith("output 'y' error [probe:mask left padding/")
    assert untold["reason"].endswith(
        "; no failure, since the manifest does not say that input 'attention_mask' is masked so "
        '(padding = "any" or "left"; "right" where it never is)'
    )


@pytest.mark.parametrize("model", ["ranged", "listed"])
def test_a_fault_at_a_few_sizes_is_found_and_told_with_all_of_them(fed: Project, model: str):
    check = found(fed, model)
    assert check["outcome"] == "failed"
    assert check["reason"] == (
        "output 'y' shape [sweep:height=17/width=4/rows=1]: at height 17, 33, 49 and 65 of 16..80 "
        "(all 65 run): [1, 2, 17, 4], PyTorch gives [1, 2, 18, 4]"
    )
    assert check["measurement"]["diagnosis"]["stage"] == "capture"


@pytest.mark.parametrize(("model", "count"), [("smooth", 65), ("steps", 9)])
def test_what_is_right_at_every_size_passes(fed: Project, model: str, count: int):
    check = found(fed, model)
    assert (check["outcome"], check["reason"]) == ("passed", "")
    (sweep,) = check["measurement"]["sweeps"]
    assert len(sweep["ran"]) == count


CALLED = """
import dataclasses

import torch
from torch import nn


@dataclasses.dataclass
class Features:
    maps: list[torch.Tensor]
    mask: torch.Tensor | None = None


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(6, 8)
        self.eval()

    def decode(self, first, second):
        return torch.tanh(self.first(first) + self.second(second))


class Listed(Decoder):
    def forward(self, features):
        assert isinstance(features, list)
        return {("y", 0): self.decode(*features)}


class Starred(Decoder):
    def forward(self, *features):
        return self.decode(*features)


class KeywordOnly(Decoder):
    def forward(self, *, features: Features, offset: int):
        y = self.decode(*features.maps) + offset
        return Features([y], y * 2)


class Keywords(Decoder):
    def forward(self, a, scale=1.0, **kwargs):
        return self.decode(a, kwargs["b"]) * scale


class Cached(Decoder):
    def forward(self, a, past_key_values, use_cache=True):
        y = torch.stack([self.decode(k, v) for k, v in past_key_values]).sum(0)
        return (y + a, past_key_values) if use_cache else (y + a,)
"""

CALLS = """
schema = 1
[defaults]
exporters = ["torchscript"]
probe_seconds = 0.1
[models.listed]
factory = "called.py:Listed"
dims = { batch = [1, 3] }
inputs.a = { path = "features.0", shape = ["batch", 4] }
inputs.b = { path = "features.1", shape = ["batch", 6] }
outputs.y.shape = ["batch", 8]
[models.starred]
factory = "called.py:Starred"
dims = { batch = [1, 3] }
inputs."features.1".shape = ["batch", 6]
inputs."features.0".shape = ["batch", 4]
outputs.y.shape = ["batch", 8]
[models.keyword-only]
factory = "called.py:KeywordOnly"
dims = { batch = [1, 3] }
arguments = { offset = 2 }
inputs.a = { path = "features.maps.0", shape = ["batch", 4] }
inputs.b = { path = "features.maps.1", shape = ["batch", 6] }
outputs.twice = { path = "mask", shape = ["batch", 8] }
[models.keywords]
factory = "called.py:Keywords"
dims = { batch = [1, 3] }
inputs.a.shape = ["batch", 4]
inputs.b.shape = ["batch", 6]
outputs.y.shape = ["batch", 8]
[models.cached]
factory = "called.py:Cached"
dims = { batch = [1, 3] }
arguments = { use_cache = false }
containers = { past_key_values = "tuple", "past_key_values.0" = "tuple" }
inputs.a.shape = ["batch", 8]
inputs."past_key_values.0.0".shape = ["batch", 4]
inputs."past_key_values.0.1".shape = ["batch", 6]
outputs.y.shape = ["batch", 8]
"""


def test_inputs_in_structures_by_keyword_and_constants_pass_every_check(project: Project):
    (project.path / "called.py").write_text(CALLED)
    (project.path / "models.toml").write_text(CALLS)
    project.run("-m", "not latency")
    assert set(project.outcomes().values()) == {"passed"}
    exported = {node.split("::")[0] for node in project.outcomes()}
    assert exported == {"listed", "starred", "keyword-only", "keywords", "cached"}


def test_a_fault_behind_structures_is_found_in_its_layer(project: Project):
    (project.path / "called.py").write_text(
        CALLED.replace("first(first)", "first(first) * (2 if torch.jit.is_tracing() else 1)")
    )
    listed = CALLS.partition("[models.starred]")[0]
    (project.path / "models.toml").write_text(listed)
    said = project.run("-m", "not latency").stdout.str()
    assert "guilty stage: capture" in said
    assert re.search(r"first divergence: Mul .*\n +in PyTorch: aten.add, .*called.py:21\n", said)
