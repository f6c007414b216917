"""The CI files that docs/ci.md hands on are valid, and call what exists; so is pre-commit's."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
WORKFLOWS = {
    "docs/ci/github-actions.yml": "vendor.github-workflows",
    "docs/ci/github-release.yml": "vendor.github-workflows",
    "docs/ci/github-sharded.yml": "vendor.github-workflows",
    "docs/ci/gitlab-ci.yml": "vendor.gitlab-ci",
    "docs/ci/gitlab-sharded.yml": "vendor.gitlab-ci",
}


def invalid(path: Path, schema: str) -> str:
    """What the service's own schema has against a file; empty where there is nothing."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for entry in value.values() for text in strings(entry)]
    if isinstance(value, list):
        return [text for entry in value for text in strings(entry)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize(("name", "schema"), WORKFLOWS.items())
def test_a_workflow_is_valid_and_named_in_the_docs(name: str, schema: str):
    assert invalid(ROOT / name, schema) == ""
    assert Path(name).relative_to("docs").as_posix() in (ROOT / "docs" / "ci.md").read_text()


@pytest.mark.parametrize(("name", "schema"), WORKFLOWS.items())
def test_a_broken_workflow_is_refused(name: str, schema: str, tmp_path: Path):
    broken = tmp_path / "workflow.yml"
    text = (ROOT / name).read_text()
    broken.write_text(re.sub("runs-on:|script:", "run-on:", text))
    assert "run-on" in invalid(broken, schema)


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_runs_the_gate_with_options_that_exist(name: str):
    texts = strings(yaml.safe_load((ROOT / name).read_text()))
    gates = " ".join(text for text in texts if "pytest --onnxcheck" in text)
    settings = (ROOT / "pytest_onnxcheck" / "plugin" / "settings.py").read_text()
    options = set(re.findall(r"--onnxcheck[\w-]*", gates))
    assert {"--onnxcheck", "--onnxcheck-json"} <= options
    assert options <= set(re.findall(r"--onnxcheck[\w-]*", settings))


@pytest.mark.parametrize("name", [name for name in WORKFLOWS if "sharded" in name])
def test_shards_are_all_of_one_run_and_are_merged(name: str):
    workflow = yaml.safe_load((ROOT / name).read_text())
    jobs = workflow.get("jobs", workflow)
    gate, merge = " ".join(strings(jobs["models"])), " ".join(strings(jobs["merge"]))
    if "strategy" in jobs["models"]:
        shards = jobs["models"]["strategy"]["matrix"]["shard"]
        assert shards == list(range(1, len(shards) + 1))
        assert "--onnxcheck-shard=${{ matrix.shard }}/${{ strategy.job-total }}" in gate
        assert set(jobs["merge"]["needs"]) == {"models", "speed"}
    else:
        assert jobs["models"]["parallel"] > 1
        assert "--onnxcheck-shard=$CI_NODE_INDEX/$CI_NODE_TOTAL" in gate
    assert '-m "not latency"' in gate
    assert "-m latency" in " ".join(strings(jobs["speed"]))
    command = re.search(r"onnxcheck merge .*? --to \w+", merge)
    assert command is not None
    assert "--expect models.toml" in command[0]
    options = set(re.findall(r"--[a-z]+", command[0]))
    told = (ROOT / "tests" / "cli" / "snapshots" / "help-merge.txt").read_text()
    assert options <= set(re.findall(r"--[a-z]+", told))


def test_pre_commit_runs_what_lint_runs():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    entries = {re.sub(r" --.*", "", hook["entry"]) for hook in hooks}
    tox = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["tox"]
    commands = tox["env"]["lint"]["commands"]
    run = {re.sub(r" (-.*|\.)", "", " ".join(command)) for command in commands}
    assert entries == run
