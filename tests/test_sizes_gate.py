"""Sizes in the manifest: an empty cache, expressions of dims, sizes nobody chooses, own cases."""

from __future__ import annotations

import numpy as np
import pytest
from project import Project

NETS = '''
import numpy as np
import torch
from torch import nn


class Decoder(nn.Module):
    """One layer of attention over what was kept and what is new."""

    def __init__(self):
        super().__init__()
        self.tokens, self.projection = nn.Embedding(20, 8), nn.Linear(8, 24)
        self.head = nn.Linear(8, 20)

    def forward(self, ids, attention_mask, keys, values):
        x = self.tokens(ids)
        query, key, value = self.projection(x).chunk(3, -1)
        keys, values = torch.cat([keys, key], 1), torch.cat([values, value], 1)
        past, new = keys.shape[1] - ids.shape[1], ids.shape[1]
        seen = torch.arange(past + new) <= torch.arange(new)[:, None] + past
        kept = seen[None] & attention_mask[:, None].bool()
        scores = (query @ keys.transpose(1, 2) / 8**0.5).masked_fill(~kept, -1e4)
        return self.head(x + torch.softmax(scores, -1) @ values), keys, values


def decoder():
    return Decoder().eval()


class Ignoring(Decoder):
    """Does without the past where the example that was traced had one."""

    def forward(self, ids, attention_mask, keys, values):
        logits, keys, values = super().forward(ids, attention_mask, keys, values)
        return logits + (0 if keys.shape[1] > ids.shape[1] else 1), keys, values


def ignoring():
    return Ignoring().eval()


class Detector(nn.Module):
    def __init__(self, bias=0.0):
        super().__init__()
        self.score, self.box, self.bias = nn.Linear(4, 1), nn.Linear(4, 4), bias

    def forward(self, x):
        found = torch.nonzero(self.score(x)[:, 0] + self.bias > 0)[:, 0]
        return self.box(x)[found], found


def detector(bias=0.0):
    return Detector(bias).eval()


class Ids(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens, self.head = nn.Embedding(999, 8), nn.Linear(8, 4)

    def forward(self, ids):
        return self.head(self.tokens(ids)).mean(1)


def ids():
    return Ids().eval()


def sentences():
    for batch in (1, 3):
        yield {"ids": np.arange(5 * batch).reshape(batch, 5) + 900}
'''

STEP = """
[models.{name}]
factory = "nets.py:{name}"
dims = {{ batch = [1, 2], new = [1, 4], past = [0, 3] }}
inputs.ids = {{ shape = ["batch", "new"], dtype = "int64", range = [0, 19] }}
inputs.attention_mask = {{ shape = ["batch", "past + new"], dtype = "int64", {mask} }}
inputs.keys.shape = ["batch", "past", 8]
inputs.values.shape = ["batch", "past", 8]
outputs.logits.shape = ["batch", "new", 20]
outputs.present_keys.shape = ["batch", "past + new", 8]
outputs.present_values.shape = ["batch", "new + past", 8]
{more}
"""
MASK = 'range = [0, 1], padding = "left"'
DETECTOR = """
[models.{name}]
factory = "nets.py:detector"
kwargs = {{ bias = {bias} }}
dims = {{ boxes = [6, 20] }}
inputs.x.shape = ["boxes", 4]
outputs.box.shape = ["any", 4]
outputs.kept = {{ shape = "any", dtype = "int64" }}
"""
OWN = """
[models.ids]
factory = "nets.py:ids"
precisions = ["fp32", "int8-dynamic"]
dims = { batch = [1, 2] }
inputs.ids = { shape = ["batch", 5], dtype = "int64" }
outputs.y.shape = ["batch", 4]
cases.sentences.source = "nets.py:sentences"
latency.seconds = 0.01
"""
UNTIMED = ("-k", "not latency")


@pytest.fixture
def project(tmp_path):
    made = Project(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    return made


def equal(variant, model="decoder"):
    return f"{model}::{variant}::test_equivalence[cpu]"


def test_a_step_of_a_decoder_runs_from_an_empty_cache_on(project):
    """With both exporters: no false alarm of two dims that the trace made one."""
    more = 'exporters = ["torchscript", "dynamo"]\nopsets = [18]'
    text = STEP.format(name="decoder", mask=MASK, more=more)
    project.manifest(text, 'precisions = ["fp32", "int8-dynamic"]')
    assert project.run("-k", "not latency and not (dynamo and int8)").ret == 0
    grades = {check["nodeid"]: check["grade"] for check in project.record["checks"]}
    assert {
        grade for nodeid, grade in grades.items() if "structure" in nodeid or "fp32" in nodeid
    } == {"pass"}
    (found,) = [
        check["measurement"]
        for check in project.record["checks"]
        if check["nodeid"].endswith(equal("torchscript-op18-fp32"))
    ]
    (sweep,) = [sweep for sweep in found["sweeps"] if sweep["dim"] == "past"]
    assert sweep["ran"] == [0, 1, 2, 3]
    assert found["held_to"]["cases"] == 8


def test_a_fault_of_an_empty_cache_alone_fails(project):
    project.manifest(STEP.format(name="ignoring", mask=MASK, more=""))
    assert project.run(*UNTIMED).ret == 1
    reason = project.reason(equal("torchscript-op17-fp32", "ignoring"))
    assert "past=0" in reason
    assert "past 0 of 0..3 (all 4 run)" in reason


def test_as_many_outputs_as_there_are_detections(project):
    project.manifest(
        DETECTOR.format(name="some", bias=0.0) + DETECTOR.format(name="none", bias=-99.0)
    )
    assert project.run("-k", "some and not latency").ret == 0
    assert {check["grade"] for check in project.record["checks"]} == {"pass"}
    assert project.run("-k", "none and not latency").ret == 1
    assert "nothing was compared" in project.reason(equal("torchscript-op17-fp32", "none"))


def test_with_draws_0_own_cases_are_all_there_is(project):
    project.manifest(OWN, "draws = 0")
    result = project.run("--onnxcheck-search=1")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["no probes  2 of ids: draws is 0"])
    result.stdout.fnmatch_lines(["*draws is 0, so that --onnxcheck-search, which draws inputs*"])
    checks = {check["nodeid"].partition("::")[2]: check for check in project.record["checks"]}
    found = checks[equal("torchscript-op17-fp32", "ids")]["measurement"]
    names = [case["case"] for case in found["cases"] if "again" not in case["case"]]
    assert names == ["case:sentences/0", "case:sentences/1"]
    assert (found["sweeps"], found["held_to"]["probes"]) == ([], 0)
    timed = checks["ids::torchscript-op17-fp32::test_latency[cpu]"]["measurement"]
    assert timed["dims"] == {"batch": 1}


def test_a_point_that_no_own_case_has_is_told(project):
    project.manifest(OWN + "latency.dims = [{ batch = 3 }, { batch = 8 }]", "draws = 0")
    assert project.run("-k", "latency and fp32").ret == 1
    checks = {check["nodeid"].partition("::")[2]: check for check in project.record["checks"]}
    timed = checks["ids::torchscript-op17-fp32::test_latency[cpu-batch3]"]
    assert timed["measurement"]["dims"] == {"batch": 3}
    assert (
        "latency.dims asks for batch = 8, and with draws = 0 only inputs of your own are timed, of "
        "which none has these sizes: add such a case to `cases`, or drop the point"
    ) in project.reason("ids::torchscript-op17-fp32::test_latency[cpu-batch8]")


def test_the_example_gives_the_sizes_where_nothing_is_drawn(project):
    np.savez(project.path / "e.npz", ids=np.arange(35).reshape(7, 5))
    text = OWN.replace('cases.sentences.source = "nets.py:sentences"', 'example = "e.npz"')
    project.manifest(text, "draws = 0")
    assert project.run("-k", "fp32").ret == 0
    checks = {check["nodeid"].partition("::")[2]: check for check in project.record["checks"]}
    timed = checks["ids::torchscript-op17-fp32::test_latency[cpu]"]["measurement"]
    assert timed["dims"] == {"batch": 7}
