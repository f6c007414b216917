"""The accuracy check in the gate: a classifier that is right, and damaged copies of it."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from project import Project
from torch import nn

MODEL = """
[models.{name}]
factory = "nets.py:linear"
checkpoint = "net.pt"
onnx = "{onnx}.onnx"
dims = {{ batch = [1, 3] }}
inputs.x.shape = ["batch", 8]
outputs.y.shape = ["batch", 4]
[models.{name}.accuracy]
{accuracy}
"""
NETS = """

def linear():
    return nn.Linear(8, 4).eval()


def margin(labels, outputs):
    ordered = torch.from_numpy(outputs).sort().values
    return (ordered[:, -1] - ordered[:, -2]).mean()


def regression():
    net = torch.load("net.pt")
    x = torch.randn(100, 8, generator=torch.Generator().manual_seed(2))
    y = x @ net["weight"].T + net["bias"] + 0.1
    yield {"x": x.numpy()}, y.numpy()
"""
BOUND = 'file = "samples.npz"\nmax_drop = 0.005'
OWN = 'file = "samples.npz"\nmetric = "nets.py:margin"\nmax_drop = 0.1'
MSE = 'source = "nets.py:regression"\nmetric = "mse"\nmax_drop = 0.01'
BY_PRECISION = 'file = "samples.npz"\nmax_drop = {{ fp32 = {} }}'
MODELS = [
    ("healthy", "healthy", BOUND),
    ("damaged", "damaged", BOUND),
    ("few", "healthy", f"{BOUND}\ncount = 100"),
    ("own", "healthy", OWN),
    ("own-halved", "halved", OWN),
    ("mse", "healthy", MSE),
    ("mse-damaged", "damaged", MSE),
    ("generous", "damaged", BY_PRECISION.format(0.499)),
    ("strict", "damaged", BY_PRECISION.format(0.01)),
]


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """The record's entries of one run, by model; labels are what PyTorch predicts."""
    project = Project(tmp_path_factory.mktemp("accuracy"))
    (project.path / "nets.py").write_text((project.path / "nets.py").read_text() + NETS)
    torch.manual_seed(0)
    net = nn.Linear(8, 4).eval()
    torch.save(net.state_dict(), project.path / "net.pt")
    x = torch.randn(800, 8)
    with torch.no_grad():
        np.savez(project.path / "samples.npz", x=x.numpy(), labels=net(x).argmax(1).numpy())
        damaged, halved = copy.deepcopy(net), copy.deepcopy(net)
        damaged.weight[0] -= 10
        halved.weight *= 0.5
    for name, module in {"healthy": net, "damaged": damaged, "halved": halved}.items():
        save(module, project.path / f"{name}.onnx")
    project.manifest(
        "".join(MODEL.format(name=name, onnx=onnx, accuracy=acc) for name, onnx, acc in MODELS)
    )
    assert project.run("-m", "accuracy").ret == 1
    return {entry["model"]: entry for entry in project.record["checks"]}


def save(module, path):
    names = {"input_names": ["x"], "output_names": ["y"]}
    axes = {"dynamic_axes": {"x": {0: "batch"}, "y": {0: "batch"}}}
    torch.onnx.export(module, (torch.zeros(2, 8),), path, dynamo=False, **names, **axes)


def test_every_model_has_the_outcome_it_deserves(entries):
    assert {name: (entry["outcome"], entry["grade"]) for name, entry in entries.items()} == {
        "healthy": ("passed", "pass"),
        "damaged": ("failed", "fail"),
        "few": ("passed", "warn"),
        "own": ("passed", "pass"),
        "own-halved": ("failed", "fail"),
        "mse": ("passed", "pass"),
        "mse-damaged": ("failed", "fail"),
        "generous": ("passed", "pass"),
        "strict": ("failed", "fail"),
    }


def test_a_healthy_artefact_loses_nothing(entries):
    measured = entries["healthy"]["measurement"]
    assert (measured["torch"], measured["onnxruntime"], measured["drop"]) == (1.0, 1.0, 0.0)
    assert (measured["low"], measured["high"], measured["changed"]) == (0.0, 0.0, 0)
    assert measured["samples"] == 800


def test_a_damaged_artefact_fails_with_the_numbers(entries):
    measured, reason = entries["damaged"]["measurement"], entries["damaged"]["reason"]
    assert measured["drop"] > measured["low"] > 0.1
    assert reason.startswith(
        f"accuracy: {measured['onnxruntime']:.4f} (PyTorch 1.0000), drop {measured['drop']:.4f}, "
        f"95% interval [{measured['low']:.4f}, {measured['high']:.4f}] of 800 samples"
    )
    assert reason.endswith("allowed 0.005 (accuracy.max_drop)")


def test_too_few_samples_warn(entries):
    assert entries["few"]["reason"].endswith(
        "too few samples to tell: a drop of 0.005 would show in none of 100 with probability 0.61; "
        "give at least 600"
    )


def test_other_metrics_are_judged_in_their_own_units(entries):
    assert entries["own-halved"]["reason"].startswith("nets.py:margin: ")
    assert entries["mse"]["measurement"]["torch"] == pytest.approx(0.01, rel=1e-3)
    assert entries["mse-damaged"]["reason"].startswith("mse: ")
    assert entries["mse-damaged"]["measurement"]["drop"] > 1


def test_missing_samples_fail_once_and_models_without_accuracy_have_no_such_check(project: Project):
    model = """
    [models.{name}]
    factory = "nets.py:mlp"
    dims = {{ batch = [1, 3] }}
    inputs.x.shape = ["batch", 8]
    outputs.y.shape = ["batch", 4]
    """
    accuracy = '[models.net.accuracy]\nfile = "nowhere.npz"\n'
    project.manifest(
        model.format(name="net") + accuracy + model.format(name="plain"), "opsets = [17, 18]"
    )
    assert project.run("-m", "accuracy").ret == 1
    outcomes = project.outcomes()
    first, second = (f"net::torchscript-op{v}-fp32::test_accuracy[cpu]" for v in (17, 18))
    assert outcomes == {first: "failed", second: "skipped"}
    assert "nowhere.npz: not found. Expected a .npz with one array per" in project.reason(first)
    assert project.reason(second) == f"needs what failed in models.toml::{first}"
