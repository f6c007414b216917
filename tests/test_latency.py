"""Timing through pytest-benchmark: two entries from one interleaved measurement."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project, mlps

from pytest_onnxcheck.engine.latency import interleave

SHORT = """
[models.net.latency]
seconds = 0.05
"""


def saved_runs(project: Project) -> list[Path]:
    return sorted((project.path / ".benchmarks").rglob("*.json"))


def test_both_sides_are_entries_of_one_group_and_histories_compare(project: Project):
    project.manifest(mlps("net") + SHORT)
    for _ in range(2):
        result = project.run("-m", "latency", "--benchmark-autosave")
        assert result.ret == 0
    runs = saved_runs(project)
    assert len(runs) == 2
    entries = json.loads(runs[0].read_text())["benchmarks"]
    point = "net::torchscript-op17-fp32"
    assert {(entry["group"], entry["name"]) for entry in entries} == {
        (f"{point} cpu-batch{batch}", f"{point}-cpu-batch{batch}-{backend}")
        for batch in (1, 3)
        for backend in ("torch", "onnxruntime")
    }
    nodeid = f"models.toml::{point}::test_latency[cpu-batch1]"
    assert f"{nodeid}-torch" in {entry["fullname"] for entry in entries}
    by_backend = {
        entry["extra_info"]["backend"]: entry for entry in entries if "batch1" in entry["name"]
    }
    for backend, entry in by_backend.items():
        assert entry["stats"]["rounds"] >= 21
        assert entry["extra_info"]["provider"] == "CPUExecutionProvider"
        assert entry["extra_info"]["dims"] == {"batch": 1}
        assert entry["extra_info"]["threads"] == 1
        assert entry["stats"]["median"] > 0, backend
    assert by_backend["torch"]["stats"]["rounds"] == by_backend["onnxruntime"]["stats"]["rounds"]
    medians = [by_backend[backend]["stats"]["median"] for backend in ("torch", "onnxruntime")]
    # the speed-up is a median of ratios; it is near the ratio of the medians
    assert by_backend["torch"]["extra_info"]["speedup"] == pytest.approx(
        medians[0] / medians[1], rel=0.5
    )
    compared = subprocess.run(
        [sys.executable, "-m", "pytest_benchmark", "compare"],
        cwd=project.path,
        capture_output=True,
        text=True,
        check=True,
    )
    table = compared.stdout + compared.stderr
    for run in ("0001", "0002"):
        assert f"{point}-cpu-batch1-onnxruntime ({run}" in table


@pytest.mark.parametrize(
    ("option", "outcome"), [("--benchmark-disable", "skipped"), ("--benchmark-skip", "skipped")]
)
def test_switched_off_timing_is_a_skip_and_never_a_pass(
    project: Project, option: str, outcome: str
):
    project.manifest(mlps("net") + SHORT)
    result = project.run("-m", "latency", option)
    assert result.ret == 0
    assert set(project.outcomes().values()) == {outcome}


def test_only_timing_can_be_run(project: Project):
    project.manifest(mlps("net") + SHORT)
    result = project.run("--benchmark-only")
    assert result.ret == 0
    outcomes = project.outcomes()
    assert {o for nodeid, o in outcomes.items() if "latency" in nodeid} == {"passed"}
    assert {o for nodeid, o in outcomes.items() if "latency" not in nodeid} == {"skipped"}


def test_a_skipped_target_leaves_no_entry_and_no_warning(project: Project):
    project.manifest(mlps("net") + SHORT, 'targets = ["cuda"]')
    result = project.run("-m", "latency", "--benchmark-autosave")
    assert set(project.outcomes().values()) == {"skipped"}
    assert not saved_runs(project)
    assert result.ret == 0
    assert "was not used" not in "\n".join(result.outlines)


def test_calls_alternate_in_pairs_of_changing_order():
    calls: list[str] = []
    pairs = interleave(lambda: calls.append("a"), lambda: calls.append("b"), seconds=0.0)
    assert len(pairs) == 21
    timed = calls[-2 * len(pairs) :]
    assert timed[:8] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert all(first > 0 and second > 0 for first, second in pairs)


def test_pairs_keep_their_sides():
    import time

    pairs = interleave(lambda: time.sleep(0.002), lambda: None, seconds=0.0)
    assert all(first > second for first, second in pairs)
