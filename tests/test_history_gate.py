"""The history in whole runs of the gate, on a clock that the tests control.

Where a verdict is wanted, the stored times are changed a thousandfold.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
from project import Project, Result, mlps

from pytest_onnxcheck.manifest import load_manifest

POINT = "models.toml::net::torchscript-op17-fp32[cpu-batch1]"
LATENCY = "net::torchscript-op17-fp32::test_latency[cpu-batch1]"
SHORT = """
[models.{name}.latency]
seconds = 0.05
longest = 0.05
dims = [{{ batch = 1 }}]
"""
LIMIT = 'budget.fp32.max_regression = "100%"'
HISTORY = "--onnxcheck-history=history"


@pytest.fixture
def project(project: Project) -> Project:
    project.on_clock()
    return project


def manifest(project: Project, name: str = "net", more: str = "", limit: str = LIMIT) -> None:
    project.manifest(mlps(name) + more + SHORT.format(name=name), limit)


def rename_input(path: Path) -> None:
    model = onnx.load(path)
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["renamed" if used == name else used for used in node.input]
    model.graph.input[0].name = "renamed"
    onnx.save(model, path)


def told(result: Result) -> list[str]:
    return [line for line in result.outlines if line.startswith("history  ")]


def files(project: Project, folder: str = "history") -> list[str]:
    return sorted(path.name.partition("_")[0] for path in (project.path / folder).glob("[!.]*"))


def times_of_the_baseline(project: Project, factor: float) -> None:
    """Makes the stored baseline that much slower."""
    path = project.path / "history" / "baseline.json"
    content = json.loads(path.read_text())
    for accepted in content["checks"].values():
        for point in accepted:
            point["normalised"] *= factor
            point["speedup"] /= factor
            point["interval"] = [end * factor for end in point["interval"]]
    path.write_text(json.dumps(content))


def test_from_a_missing_baseline_to_a_regression(project: Project):
    manifest(project)
    first = project.run("-m", "latency", HISTORY)
    assert first.ret == 0
    assert "no baseline for budget.max_regression" in project.reason(LATENCY)
    assert files(project) == ["0001"]
    assert [line.partition(" in ")[0] for line in told(first)] == ["history  stored"]

    accepted = project.run("-m", "latency", HISTORY, "--onnxcheck-accept", "--onnxcheck-strict")
    assert accepted.ret == 0  # what is missing is what this run makes
    assert files(project) == ["0001", "0002", "baseline.json"]
    assert "accepted 1 as the baseline" in told(accepted)[-1]
    stored = json.loads((project.path / "history" / "baseline.json").read_text())
    (point,) = stored["checks"][POINT]
    assert point["manifest"] == "models.toml"
    assert point["limit"] == 1.0

    times_of_the_baseline(project, 1000)
    assert project.run("-m", "latency", HISTORY).ret == 0
    assert project.reason(LATENCY) == ""

    times_of_the_baseline(project, 1e-6)
    slower = project.run("-m", "latency", HISTORY)
    assert slower.ret == 1
    assert "slower (99% interval" in project.reason(LATENCY)
    assert "than the baseline accepted" in project.reason(LATENCY)
    assert told(slower) == ["history  nothing stored: the run failed"]
    assert files(project) == ["0001", "0002", "0003", "baseline.json"]

    meant = project.run("-m", "latency", HISTORY, "--onnxcheck-accept")
    assert meant.ret == 0
    assert "accepted by --onnxcheck-accept" in project.reason(LATENCY)


def test_a_missing_baseline_goes_red_where_it_is_strict(project: Project):
    manifest(project)
    result = project.run("-m", "latency", "--onnxcheck-strict")
    assert result.ret == 1
    assert project.outcomes() == {LATENCY: "failed"}
    assert "run with --onnxcheck-accept on the branch you release" in project.reason(LATENCY)
    # nobody asked to keep anything
    assert not (project.path / ".benchmarks" / "onnxcheck").exists()


def test_a_run_in_which_anything_failed_is_neither_kept_nor_accepted(project: Project):
    failing = mlps("broken").replace('["batch", 4]', '["batch", 5]')
    manifest(project, more=failing + SHORT.format(name="broken"))
    result = project.run(HISTORY, "--onnxcheck-accept", "-m", "latency or structure")
    assert result.ret == 1
    assert project.outcomes()[LATENCY] == "passed"
    assert told(result) == ["history  nothing stored: the run failed"]
    assert files(project) == []


def test_accepting_without_having_measured_is_a_failure(project: Project):
    manifest(project)
    result = project.run("--onnxcheck-accept", "-m", "latency", "--benchmark-disable")
    assert result.ret == 1
    assert "no latency was measured, nothing is accepted" in told(result)[-1]
    assert project.record["exitstatus"] == 1
    assert not (project.path / ".benchmarks" / "onnxcheck").exists()


def test_what_vanished_goes_red_where_it_is_strict(project: Project):
    manifest(project, limit="")
    assert project.run("-m", "latency", HISTORY, "--onnxcheck-accept").ret == 0
    assert project.record["history"][-1].startswith("accepted 1 as the baseline")
    manifest(project, "web", limit="")
    assert project.run("-m", "latency", HISTORY).ret == 0
    strict = project.run("-m", "latency", HISTORY, "--onnxcheck-strict")
    assert strict.ret == 1
    assert project.record["exitstatus"] == 1
    assert project.record["history"] == [line.removeprefix("history  ") for line in told(strict)]
    assert project.record["history"][0].startswith(f"vanished: {POINT} is in the baseline")
    accepted = project.run("-m", "latency", HISTORY, "--onnxcheck-accept", "--onnxcheck-strict")
    assert accepted.ret == 0
    assert f"history  no longer in the baseline: {POINT}" in told(accepted)
    assert project.run("-m", "latency", HISTORY, "--onnxcheck-strict").ret == 0


def test_a_mistyped_model_keeps_its_baseline(project: Project):
    both = mlps("net", "web") + SHORT.format(name="net") + SHORT.format(name="web")
    project.manifest(both)
    assert project.run("-m", "latency", HISTORY, "--onnxcheck-accept").ret == 0
    path = project.path / "history" / "baseline.json"
    accepted = set(json.loads(path.read_text())["checks"])
    assert len(accepted) == 2
    project.manifest(both.replace("[models.web]", "[models.web]\nfactorie = 1", 1))
    result = project.run(
        *("-m", "latency", "--onnxcheck-model=net", HISTORY),
        *("--onnxcheck-accept", "--onnxcheck-strict"),
    )
    assert set(project.outcomes().values()) == {"passed"}
    assert not any("vanished" in line or "no longer" in line for line in told(result))
    assert set(json.loads(path.read_text())["checks"]) == accepted


def test_a_baseline_that_cannot_be_read_goes_red_and_stays(project: Project):
    manifest(project)
    path = project.path / "history" / "baseline.json"
    path.parent.mkdir()
    path.write_text("<<<<<<< HEAD")
    result = project.run("-m", "latency", HISTORY, "--onnxcheck-accept")
    assert result.ret == 1
    assert "baseline.json: not readable" in project.reason(LATENCY)
    assert path.read_text() == "<<<<<<< HEAD"


def test_the_previous_artefact_is_timed_beside_the_new_one(project: Project):
    manifest(project, more='baseline = "old/net.onnx"\n')
    missing = project.run("-m", "latency")
    assert missing.ret == 1
    assert "old/net.onnx (key `baseline` of the model: put the previous" in project.reason(LATENCY)
    (built,) = (project.path / ".onnxcheck" / "net").rglob("*.onnx")
    (project.path / "old").mkdir()
    shutil.copy(built, project.path / "old" / "net.onnx")
    old = project.path / "old" / "net.onnx"
    project.run("-m", "latency")
    (check,) = project.record["checks"]
    assert set(check["measurement"]["ratios"]) == {"torch", "kernel", "baseline"}
    assert check["measurement"]["baseline"]["median"] > 0
    assert "no baseline" not in check["reason"]
    rename_input(old)
    assert project.run("-m", "latency").ret == 1
    assert "`baseline` does not take its inputs: the artefact needs" in project.reason(LATENCY)


def test_pytest_benchmark_does_not_take_our_files_for_its_own(project: Project):
    manifest(project, limit="")
    result = project.run("-m", "latency", "--onnxcheck-accept", "--benchmark-autosave")
    assert result.ret == 0
    ours = project.path / ".benchmarks" / "onnxcheck" / "history" / "baseline.json"
    assert ours.is_file()
    shutil.copy(ours, ours.with_name("0009_x.json"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "list"],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=True,
    )
    listed = (done.stdout + done.stderr).strip().splitlines()
    assert len(listed) == 1
    assert "onnxcheck" not in listed[0]
    # the default folder is looked at by itself once it is there
    manifest(project, "web", limit="")
    result = project.run("-m", "latency")
    assert result.ret == 0
    problem, vanished, new = told(result)
    assert "0009_x.json: " in problem
    assert f"vanished: {POINT} is in the baseline" in vanished
    assert f"new: {POINT.replace('net::', 'web::')} is in no baseline" in new


def problems(path: Path, models: str) -> str:
    file = path / "models.toml"
    file.write_text(f"schema = 1\n{models}")
    return "\n".join(problem.text for problem in load_manifest(file).problems)


NET = """
[models.net]
factory = "nets.py:mlp"
precisions = ["fp32", "int8-dynamic"]
inputs.x.shape = [1, 8]
outputs.y.shape = [1, 4]
"""


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('baseline = "old.onnx"', "baseline has no effect: say how much slower"),
        ('baseline = { fp16 = "old.onnx" }', "'fp16' matches no variant"),
        ("baseline = 3", "baseline"),
        ("budget.fp32.max_regression = 10", 'did you mean "10%"?'),
    ],
)
def test_what_is_wrong_in_the_manifest_is_said(tmp_path: Path, keys: str, says: str):
    assert says in problems(tmp_path, NET + keys)


@pytest.mark.parametrize(
    ("baseline", "found"),
    [
        ('"old.onnx"', {"fp32": "old.onnx", "int8-dynamic": None}),
        ('{ "*" = "a", "*-int8-*" = "b" }', {"fp32": "a", "int8-dynamic": "b"}),
    ],
)
def test_a_baseline_is_of_fp32_or_of_what_a_glob_chooses(
    tmp_path: Path, baseline: str, found: dict[str, Any]
):
    limits = 'budget."*".max_regression = "10%"'
    assert problems(tmp_path, f"{NET}baseline = {baseline}\n{limits}") == ""
    model = load_manifest(tmp_path / "models.toml").models["net"]
    paths = {variant.precision: variant.baseline for variant in model.variants}
    assert paths == {key: name and tmp_path / name for key, name in found.items()}
