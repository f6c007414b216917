"""Faults put into artefacts: the gate notices them, and says so when it does not."""

from __future__ import annotations

import json

import pytest
import torch
from project import Project, mlps
from torch import nn

FP32 = "torchscript-op17-fp32"

#: model -> the lines that are added to a healthy one
MODELS = {
    "sound": "",
    "strict": "tolerance.fp32.min_mutation_score = 0.9",
    # whoever allows a million floors notices no fault in a weight
    "lax": "tolerance.fp32.safety = 1e12\ntolerance.fp32.min_mutation_score = 1.0",
    "lax_untold": "tolerance.fp32.safety = 1e12",
    "failing": 'onnx = "wrong.onnx"',
    "broken": 'onnx = "gone.onnx"',
}


@pytest.fixture(scope="module")
def mutated(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """One run over models that are more or less well guarded."""
    project = Project(tmp_path_factory.mktemp("mutation"))
    torch.onnx.export(
        nn.Sequential(nn.Linear(8, 4)).eval(),
        (torch.zeros(2, 8),),
        str(project.path / "wrong.onnx"),
        dynamo=False,
        input_names=["x"],
        output_names=["y"],
        dynamic_axes={"x": {0: "batch"}, "y": {0: "batch"}},
    )
    project.manifest("\n".join(mlps(name) + lines for name, lines in MODELS.items()))
    project.result = project.run("--onnxcheck-mutants=12", "-m", "mutation", "-rs")
    return project


def found(project: Project, model: str) -> dict:
    (check,) = [check for check in project.record["checks"] if check["model"] == model]
    return check


def results(check: dict) -> list[str]:
    return [mutant["result"] for mutant in check["measurement"]["mutants"]]


def test_faults_in_a_healthy_artefact_are_noticed_and_told(mutated: Project):
    check = found(mutated, "sound")
    assert (check["check"], check["outcome"], check["grade"]) == ("mutation", "passed", "pass")
    kinds = results(check)
    assert len(kinds) == 12
    assert kinds.count("survived") <= 1
    killed, survived = kinds.count("killed"), kinds.count("survived")
    assert check["reason"].startswith(
        f"mutants: {killed} of {killed + survived} injected faults were noticed (score "
    )
    assert len({mutant["operator"] for mutant in check["measurement"]["mutants"]}) > 3
    for mutant in check["measurement"]["mutants"]:
        if mutant["result"] == "killed":
            assert mutant["by"].startswith(("structure: ", "load: ", "equivalence, case "))


def test_a_healthy_artefact_reaches_the_score_asked_for(mutated: Project):
    check = found(mutated, "strict")
    assert check["outcome"] == "passed"
    assert check["reason"].endswith("asked for at least 0.9 (tolerance.min_mutation_score)")


def test_a_gate_that_notices_too_little_fails_and_lists_what_survived(mutated: Project):
    check = found(mutated, "lax")
    assert check["outcome"] == "failed"
    survivors = [m for m in check["measurement"]["mutants"] if m["result"] == "survived"]
    assert len(survivors) > 3
    assert check["reason"].endswith("asked for at least 1 (tolerance.min_mutation_score)")
    for mutant in survivors:
        assert mutant["ratio"] > 8
        line = f"  survived: {mutant['operator']}: {mutant['description']} (*noise floors)"
        mutated.result.stdout.fnmatch_lines([line.replace("[", "[[]")])


def test_without_a_score_survivors_are_told_and_no_failure(mutated: Project):
    check = found(mutated, "lax_untold")
    assert check["outcome"] == "passed"
    told = [line for line in mutated.result.outlines if line.startswith("survived  models.toml::")]
    assert results(check).count("survived") > 3
    assert sum("lax_untold" in line for line in told) == 3
    more = f"survived  … and {results(check).count('survived') - 3} more there, in the record"
    assert more in mutated.result.outlines


def test_an_artefact_that_fails_by_itself_is_a_skip_and_no_score(mutated: Project):
    check = found(mutated, "failing")
    assert check["outcome"] == "skipped"
    assert check["reason"].startswith(
        "the artefact itself fails, see test_equivalence: output 'y' error [batch=1/draw0]: "
    )
    assert found(mutated, "broken")["outcome"] == "failed"
    assert "artefact not found" in found(mutated, "broken")["reason"]


def test_the_table_shows_the_score(mutated: Project):
    header = next(line for line in mutated.result.outlines if line.startswith("    variant "))
    assert header.split() == ["variant", "mutants"]
    kinds = results(found(mutated, "lax"))
    killed, survived = kinds.count("killed"), kinds.count("survived")
    mutated.result.stdout.fnmatch_lines(
        ["* lax *", f"* {FP32} *{killed}/{killed + survived} *FAIL"]
    )


def test_mutants_are_the_same_in_every_run(mutated: Project):
    before = found(mutated, "sound")["measurement"]
    # in an interpreter of its own, whose hashes are others; the others' record stays
    args = ("--onnxcheck", "--onnxcheck-json=again.json", "--onnxcheck-model=sound")
    mutated.pytest(*args, "--onnxcheck-mutants=12", "-m", "mutation", fresh=True)
    (again,) = json.loads((mutated.path / "again.json").read_text())["checks"]
    assert again["measurement"] == before


def test_without_the_option_there_is_no_such_check(mutated: Project):
    result = mutated.pytest("--onnxcheck", "--collect-only", "-q", "--onnxcheck-model=sound")
    assert not [line for line in result.outlines if "test_mutation" in line]
    assert [line for line in result.outlines if "test_equivalence" in line]


@pytest.mark.parametrize("count", ["-1", "many", "1.5"])
def test_a_number_of_mutants_that_is_none_is_refused(mutated: Project, count: str):
    result = mutated.pytest("--onnxcheck", f"--onnxcheck-mutants={count}")
    assert result.ret == 4
    assert any(f"{count!r} is not a whole number from 0 up" in line for line in result.outlines)
