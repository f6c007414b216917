"""The gate on batches whose examples differ in magnitude."""

from __future__ import annotations

import pytest
from project import Project

NETS = """
import numpy as np
import torch
from torch import nn


def plain():
    return nn.Sequential(nn.Linear(16, 32, bias=False), nn.ReLU(), nn.Linear(32, 8, bias=False))


def normalised():
    return nn.Sequential(nn.LayerNorm(16), plain())


class Steps(nn.Module):
    "Its first axis is time, under whatever name."

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(16, 8)

    def forward(self, x):
        return self.lstm(x.unsqueeze(1))[0].squeeze(1)


class Faint(nn.Module):
    "An epsilon that matters to quiet examples only."

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(16, 8, bias=False)

    def forward(self, x):
        h = self.linear(x)
        power = (h * h).mean(-1, True)
        return h * power / (power + 1e-9)


def batch(*sizes):
    x = np.random.default_rng(0).uniform(-1, 1, (len(sizes), 16))
    return {"x": np.float32(x * np.array(sizes)[:, None])}


def even():
    return batch(1, 1, 1, 1)


def quiet():
    return batch(1, 1, 1, 0.005)


def faint():
    return batch(1, 1, 1, 1e-4)
"""


def model(name: str, factory: str, precision: str, more: str = "", ranged: str = "") -> str:
    return f"""
[models.{name}]
factory = "nets_rows.py:{factory}"
precisions = ["{precision}"]
dims = {{ batch = [1, 4] }}
inputs.x = {{ shape = ["batch", 16]{ranged} }}
outputs.y.shape = ["batch", 8]
{more}
"""


def own(name: str) -> str:
    return f'cases.own = {{ source = "nets_rows.py:{name}" }}'


RANGED = ", range = [-1, 1]"
MANIFEST = "".join(
    [
        model("own", "plain", "int8-dynamic", own("quiet")),
        model("ranged", "plain", "int8-dynamic", ranged=RANGED),
        model("free", "plain", "int8-dynamic", own("even")),
        model("single", "plain", "int8-dynamic", ranged=RANGED).replace("[1, 4]", "[1]"),
        model("normalised", "normalised", "int8-dynamic", own("quiet"), RANGED),
        model("half", "plain", "fp16", own("quiet")),
        model("steps", "Steps", "int8-dynamic", own("quiet"), RANGED),
        model("faint", "Faint", "fp16", own("faint")),
    ]
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("rows_gate"))
    (project.path / "nets_rows.py").write_text(NETS)
    project.manifest(MANIFEST)
    project.run("-k", "test_equivalence and (int8 or fp16)")
    return project


def check(project, name):
    (found,) = [entry for entry in project.record["checks"] if entry["model"] == name]
    return found


def told(found):
    """The findings about examples, and not about weights of 7 bits."""
    return [entry for entry in found["findings"] if " in example " in entry["text"]]


def test_a_quiet_example_of_the_users_fails_though_the_batch_passes(run: Project):
    found = check(run, "own")
    assert found["outcome"] == "failed"
    (output,) = [
        entry["outputs"][0]
        for entry in found["measurement"]["cases"]
        if entry["case"] == "case:own"
    ]
    assert output["rel_rms"] < 0.05
    failing = found["findings"][0]
    assert (failing["grade"], failing["where"]) == ("fail", "case:own")
    assert "in example 3 of 4 (its inputs are 0.00" in failing["text"]
    assert "so what stands beside it changes it (one scale for a whole batch" in failing["text"]
    notes = found["measurement"]["diagnosis"]["notes"]
    assert notes == ["the whole output is right, an example is not"]


@pytest.mark.parametrize("name", ["ranged", "free"])
def test_a_quiet_example_that_nobody_declared_is_thought_of_and_warns(run: Project, name):
    found = check(run, name)
    assert found["outcome"] == "passed"
    (finding,) = told(found)
    assert (finding["grade"], finding["where"]) == ("warn", "one example quieter than the others")
    assert "in example 3 of 4" in finding["text"]
    assert "run such examples one at a time" in finding["text"]
    assert finding["text"].endswith(
        "; no failure, since no case of the manifest has an example as quiet beside louder ones"
    )


def test_float16_fails_an_example_by_floors_of_its_own(run: Project):
    found = check(run, "faint")
    assert found["outcome"] == "failed"
    failing, constants = found["findings"]
    assert failing["where"] == "case:own"
    assert "noise floors of its own in example 3 of 4" in failing["text"]
    assert "(1e-09, here 5.96e-08)" in constants["text"]


@pytest.mark.parametrize(
    "name",
    ["single", "normalised", "half", "steps"],
    ids=["a batch of one", "normalised before it is quantized", "float16", "steps of a sequence"],
)
def test_where_examples_do_not_drown_nothing_is_told(run: Project, name):
    found = check(run, name)
    assert (found["outcome"], told(found)) == ("passed", [])
