"""Timing through pytest-benchmark: two entries from one interleaved measurement."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import Project, mlps

from pytest_onnxcheck.engine.latency import interleave, median_interval

CONVS = """
from torch import nn


def convs():
    return nn.Sequential(nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3)).eval()
"""

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
    pairs = interleave([lambda: calls.append("a"), lambda: calls.append("b")], seconds=0.0)
    assert len(pairs) == 21
    timed = calls[-2 * len(pairs) :]
    assert timed[:8] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert all(first > 0 and second > 0 for first, second in pairs)


def test_pairs_keep_their_sides():
    import time

    rounds = interleave([lambda: time.sleep(0.002), lambda: None, lambda: None], seconds=0.0)
    # a busy machine may hold one of the others up
    assert sum(first > max(others) for first, *others in rounds) > len(rounds) / 2


def test_more_than_two_calls_take_turns_at_random():
    calls: list[str] = []
    rounds = interleave([lambda c=c: calls.append(c) for c in "abc"], seconds=0.0)
    timed = "".join(calls[-3 * len(rounds) :])
    orders = [timed[i : i + 3] for i in range(0, len(timed), 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 3


def test_the_interval_of_a_median_is_between_order_statistics():
    # n = 100, z = 2.576: ranks 50 -+ 12.9
    assert median_interval(range(100), 0.99) == (37, 62)
    assert median_interval([3.0, 1.0, 2.0], 0.99) == (1.0, 3.0)


def test_an_int8_variant_that_is_slower_than_fp32_goes_red(project: Project):
    """Convolutions as ConvInteger, which `operators` has to ask for, lose against fp32."""
    (project.path / "convs.py").write_text(CONVS)
    project.manifest(
        """
        [models.net]
        factory = "convs.py:convs"
        precisions = ["int8-dynamic"]
        dims = { batch = [1] }
        latency = { seconds = 0.3 }
        inputs.x.shape = ["batch", 32, 24, 24]
        outputs.y.shape = ["batch", 32, 20, 20]
        """,
        """
        [defaults.quantization.int8-dynamic]
        operators = ["Conv"]
        [defaults.budget.int8-dynamic]
        min_speedup = { cpu = 0.01 }
        """,
    )
    project.run("-m", "latency")
    (reason,) = [entry["reason"] for entry in project.record["checks"]]
    assert "times the fp32 artefact" in reason
    assert "slower than fp32: release that one" in reason
    assert set(project.outcomes().values()) == {"failed"}
