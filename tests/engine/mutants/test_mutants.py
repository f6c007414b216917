"""The run of mutants: seeded, in rounds, one at a time; the original stays as it was."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_models import faults, quantized, run, save, two, weight
from torch import nn

from pytest_onnxcheck.engine.graph.walk import nodes_of
from pytest_onnxcheck.engine.mutants.mutants import OPERATORS, mutants


def gate(path: Path, count: int, seed: str) -> list[tuple[str, str]]:
    return [(m.operator, m.description) for m in mutants(path, count, seed)]


class Block(nn.Module):
    """Enough of a transformer to hold LayerNorm, MatMul, Softmax and Gelu."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.norm, self.expand, self.shrink = nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 8)
        self.query, self.key = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, ids):
        x = self.norm(self.embed(ids))
        scores = torch.softmax(self.query(x) @ self.key(x).transpose(1, 2), -1)
        return self.shrink(torch.nn.functional.gelu(self.expand(scores @ x))), scores


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(5, 6, batch_first=True, bidirectional=True)
        self.head = nn.Linear(12, 3)

    def forward(self, x):
        return self.head(self.lstm(x)[0])


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Flatten(),
        nn.Linear(64, 64),
        nn.Sigmoid(),
        nn.Linear(64, 3),
    )


FORMS = {
    "convolutional": (convolutional, lambda: torch.randn(2, 2, 8, 8), ["y"]),
    "transformer": (Block, lambda: torch.randint(0, 11, (2, 5)), ["y", "scores"]),
    "recurrent": (Tagger, lambda: torch.randn(2, 5, 5), ["y"]),
}
ALWAYS = {"exponent-bit", "scaled-channel", "dropped-bias", "replaced-activation", "static-dim"}
EXPECTED = {
    "convolutional": ALWAYS | {"dtype-changed", "transposed-weight", "pads-changed"},
    "transformer": ALWAYS
    | {"dtype-changed", "transposed-weight", "epsilon-changed", "swapped-outputs"},
    "recurrent": ALWAYS | {"dtype-changed"},
}


@pytest.fixture(
    scope="module",
    params=itertools.product(FORMS, ["dynamo", "torchscript"]),
    ids="-".join,
)
def exported(request, tmp_path_factory):
    """A real model of each form, from each exporter."""
    form, exporter = request.param
    dynamo = exporter == "dynamo"
    build, example, outputs = FORMS[form]
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    args = (example(),)
    dynamic = (
        {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}
        if dynamo
        else {"dynamic_axes": {"x": {0: "batch"}}}
    )
    torch.onnx.export(
        build().eval(),
        args,
        str(path),
        dynamo=dynamo,
        input_names=["x"],
        output_names=outputs,
        opset_version=20,
        external_data=False,
        verbose=False,
        **dynamic,
    )
    return form, path, args[0].numpy()


def test_every_mutant_of_a_real_model_loads_and_most_show(exported):
    form, path, x = exported
    original, on_disk = onnx.load(path), path.read_bytes()
    expected = run(original, x=x)
    found, unchanged, last = [], [], None
    for mutant in mutants(path, 60, "seed"):
        last = mutant.model
        found.append(mutant.operator)
        onnx.checker.check_model(last)
        assert last != original, mutant
        if mutant.operator == "static-dim":
            continue
        actual = run(last, x=x)
        if all(
            a.dtype == e.dtype and np.array_equal(a, e)
            for a, e in zip(actual, expected, strict=True)
        ):
            unchanged.append(mutant.description)
    assert len(found) == 60
    assert set(found) >= EXPECTED[form]
    # what a model never reads, or reads into a relu at rest, does not show
    assert len(unchanged) <= 12, unchanged
    assert last == original
    assert path.read_bytes() == on_disk


def test_all_kinds_that_apply_come_in_the_first_round(exported):
    form, path, _ = exported
    first = [operator for operator, _ in gate(path, len(EXPECTED[form]), "any")]
    assert len(set(first)) == len(first)
    assert {operator for operator, _ in gate(path, 30, "any")} >= EXPECTED[form]
    assert set(first) <= set(OPERATORS)


def test_the_recurrent_weights_are_reached_through_what_the_exporter_does_to_them(exported):
    form, path, _ = exported
    if form != "recurrent":
        pytest.skip("has no recurrent weights")
    names = {m.where for m in mutants(path, 200, "s") if m.operator == "scaled-channel"}
    assert len(names) >= 3  # W and R of the LSTM, and the head


def test_a_seed_gives_the_same_mutants_and_another_gives_others(exported):
    _, path, _ = exported
    assert gate(path, 30, "a") == gate(path, 30, "a")
    assert gate(path, 30, "a")[:10] == gate(path, 10, "a")
    assert gate(path, 30, "a") != gate(path, 30, "b")


def test_no_two_mutants_are_the_same(exported):
    _, path, _ = exported
    found = gate(path, 150, "a")
    assert len(found) == 150
    assert len({description for _, description in found}) == 150


def test_the_order_of_sets_has_no_say(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[2,3] x) => (float[2,4] y)"
        "{ q = BatchNormalization(x, s, m, m, s) y = Gemm(q, weight, bias) }",
        **{"weight": weight(3, 4), "bias": weight(4), "s": weight(3) ** 2, "m": weight(3)},
    )
    code = (
        "import sys; from pathlib import Path\n"
        "from pytest_onnxcheck.engine.mutants.mutants import mutants\n"
        "print([m.description for m in mutants(Path(sys.argv[1]), 30, 'a')])"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert printed == {f"{[description for _, description in gate(path, 30, 'a')]}\n"}


def test_fewer_come_where_a_model_admits_no_more(tmp_path):
    path = save(tmp_path / "m.onnx", "(float[4] x) => (float[4] y) { y = Relu(x) }")
    found = gate(path, 100, "a")
    assert sorted(operator for operator, _ in found) == [
        "dtype-changed",
        "dtype-changed",
        "replaced-activation",
    ]
    assert len(gate(path, 2, "a")) == 2
    assert gate(path, 0, "a") == []


@pytest.mark.parametrize("build", [two, quantized])
def test_a_run_that_is_left_early_restores_the_model(tmp_path, build):
    path = build(tmp_path / "m.onnx")
    original = onnx.load(path)
    for count in range(1, 9):
        run_of = mutants(path, 20, "a")
        for _ in range(count):
            model = next(run_of).model
        assert model != original
        run_of.close()
        assert model == original


def test_external_data_is_loaded(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[2,32] x) => (float[2,32] y) { y = MatMul(x, w) }",
        w=weight(32, 32),
    )
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    data = (tmp_path / "m.data").read_bytes()
    x = weight(2, 32)
    for mutant in mutants(path, 6, "a"):
        run(mutant.model, x=x)
    assert (tmp_path / "m.data").read_bytes() == data


def test_nodes_and_weights_no_output_depends_on_are_left_alone(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        "(float[2,3] x) => (float[2,3] y) { y = Neg(x) dead = MatMul(x, w) idle = Tanh(dead) }",
        w=weight(3, 3),
    )
    assert {operator for operator, _ in gate(path, 100, "a")} == {"dtype-changed"}


def test_a_value_that_a_subgraph_reads_is_renamed_there_too(tmp_path):
    path = save(
        tmp_path / "m.onnx",
        """(bool c, float[2,2] x) => (float[2,2] a, float[2,2] y) {
            a = MatMul(x, w)
            y = If (c) <
                then_branch = yes () => (float[2,2] p) { p = Neg(a) },
                else_branch = no () => (float[2,2] q) { q = Relu(a) }
            >
        }""",
        w=weight(2, 2),
    )
    x = weight(2, 2)
    expected = run(onnx.load(path), c=np.array(True), x=x)
    for mutant in faults(path, "dtype-changed") + faults(path, "swapped-outputs"):
        actual = run(mutant.model, c=np.array(True), x=x)
        if mutant.operator == "swapped-outputs":
            actual.reverse()
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_allclose(a, e, rtol=1e-2)
    assert {node.op_type for node in nodes_of(onnx.load(path).graph)} >= {"Neg", "If"}


def test_a_mutant_is_printed_without_its_weights(tmp_path):
    path = two(tmp_path / "m.onnx")
    mutant = next(mutants(path, 1, "a"))
    assert "model" not in repr(mutant)
