"""Timing through pytest-benchmark: two entries from one interleaved measurement."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from project import Project, mlps

CONVS = """
from torch import nn


def convs():
    return nn.Sequential(nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3)).eval()
"""

#: makes the judge see an interval about the limit, whatever the machine does
TIED = """
import dataclasses

import pytest

from pytest_onnxcheck import judge
from pytest_onnxcheck.manifest.sections import Budget


@pytest.fixture(autouse=True)
def tied(monkeypatch):
    real = judge.latency

    def latency(measured, precision, budget):
        ratio = measured.ratios["torch"]
        near = dataclasses.replace(ratio, value=1.0, low=0.9, high=1.1)
        measured = dataclasses.replace(measured, ratios={"torch": near})
        return real(measured, precision, Budget(min_speedup={"cpu": 1.0}))

    monkeypatch.setattr(judge, "latency", latency)
"""

SHORT = """
[models.net.latency]
seconds = 0.05
longest = 0.05
"""


def saved_runs(project: Project) -> list[Path]:
    return sorted((project.path / ".benchmarks").rglob("*.json"))


def saved_entries(project: Project) -> list[int]:
    """How many entries each saved run has."""
    return [len(json.loads(path.read_text())["benchmarks"]) for path in saved_runs(project)]


def test_both_sides_are_entries_of_one_group_and_histories_compare(project: Project):
    project.on_clock()
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


@pytest.mark.parametrize(
    ("budget", "outcome"),
    [
        ("", "skipped"),
        ("max_size_mb = 1", "skipped"),
        ("min_speedup = 0.1", "failed"),
        ("max_regression = 0.1", "failed"),
    ],
)
def test_switched_off_timing_is_red_when_strict_and_there_is_a_budget(
    project: Project, budget: str, outcome: str
):
    check = gated(project, budget, "--benchmark-disable", "--onnxcheck-strict")
    assert check["outcome"] == outcome
    assert "timing is off" in check["reason"]
    assert ("--onnxcheck-strict wants its budget" in check["reason"]) is (outcome == "failed")


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


def only_check(project: Project) -> dict:
    (check,) = project.record["checks"]
    return check


def gated(
    project: Project,
    budget: str,
    *args: str,
    batches: str = "1",
    threads: int = 1,
    fresh: bool = False,
) -> dict:
    """The latency check of a small model with a budget."""
    project.manifest(
        f"""
        [models.net]
        factory = "nets.py:mlp"
        dims = {{ batch = [{batches}] }}
        latency = {{ seconds = 0.2, longest = 60, threads = {threads} }}
        inputs.x.shape = ["batch", 8]
        outputs.y.shape = ["batch", 4]
        [models.net.budget.fp32]
        {budget}
        """
    )
    project.run("-m", "latency", *args, fresh=fresh)
    return only_check(project)


def test_what_is_measured_is_in_the_record_without_the_samples(project: Project):
    project.on_clock()
    check = gated(project, "", batches="3", fresh=True)
    measured = check["measurement"]
    assert set(measured["ratios"]) == {"torch", "kernel"}
    assert measured["speedup"] == measured["ratios"]["torch"]["value"]
    own = measured["onnxruntime"]
    assert own["count"] >= 21
    assert own["median"] <= own["p90"] <= own["p95"] <= own["p99"]
    assert measured["items"] == 3
    assert measured["throughput"] == pytest.approx(3 / own["median"])
    assert measured["first_seconds"] > 0
    assert measured["load_seconds"] > 0
    assert measured["kernel_name"].startswith("numpy")
    assert (measured["threads"], measured["waiting"]) == (1, "PASSIVE")
    assert measured["boundary"] == "host to host"
    assert 0 <= measured["ratios"]["torch"]["interrupted"] <= 1
    # nothing is asked for, so that it is decided at the first look, after 0.05 s
    assert 0.05 <= measured["seconds"] < 30
    assert len(json.dumps(measured)) < 5000


def test_a_policy_of_the_users_own_for_waiting_threads_is_kept(project: Project, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    assert gated(project, "", fresh=True)["measurement"]["waiting"] == "ACTIVE"


COUNTING = """
from pathlib import Path

import torch
from torch import nn


class Counting(nn.Linear):
    def forward(self, x):
        if torch.is_inference_mode_enabled():  # as it is timed
            Path("threads.txt").write_text(str(torch.get_num_threads()))
        return super().forward(x)


def mlp():
    return Counting(8, 4).eval()
"""


def test_a_pasted_node_waits_as_passively(project: Project):
    project.manifest(mlps("net") + SHORT)
    args = ("models.toml", "-m", "latency", "--onnxcheck-json=record.json")
    project.pytest(*args, fresh=True)
    waiting = {check["measurement"]["waiting"] for check in project.record["checks"]}
    assert waiting == {"PASSIVE"}


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_the_manifest_asks_for(project: Project, threads: int):
    (project.path / "nets.py").write_text(COUNTING)
    measured = gated(project, "", threads=threads)["measurement"]
    assert (project.path / "threads.txt").read_text() == str(threads)
    assert measured["threads"] == threads


#: lets the session of `test_latency` fail in its 30th run, as an accelerator's does that is lost
LOST = """
import itertools

import pytest

from pytest_onnxcheck.engine.runtime.session import Session


@pytest.fixture(autouse=True)
def lost(monkeypatch):
    real = Session.call

    def call(self, inputs):
        run, runs = real(self, inputs), itertools.count()

        def lost():
            if next(runs) == 30:
                raise RuntimeError("[ONNXRuntimeError] : 11 : EP_FAIL : device lost")
            return run()

        return lost

    monkeypatch.setattr(Session, "call", call)
"""


@pytest.mark.parametrize(("run", "when"), [(0, "in its first run"), (30, "while it was timed")])
def test_a_run_that_fails_while_it_is_timed_is_told_and_not_saved(
    project: Project, run: int, when: str
):
    # a mock: no device can be lost here
    project.on_clock(LOST.replace("30", str(run)))
    check = gated(project, "", "--benchmark-autosave")
    assert check["outcome"] == "failed"
    assert check["reason"] == (
        f"cpu: failed {when}: [ONNXRuntimeError] : 11 : EP_FAIL : device lost"
    )
    assert sum(saved_entries(project)) == 0
    assert "Legend" not in project.pytest("--onnxcheck", "-m", "latency").stdout.str()


def test_a_mistake_of_ours_is_not_the_artefacts(project: Project):
    broken = TIED.replace(
        "        ratio = measured", "        raise TypeError('ours')\n        ratio = measured"
    )
    project.on_clock(broken)
    reason = gated(project, "")["reason"]
    assert "TypeError: ours" in reason
    assert "failed while it was timed" not in reason


def test_what_fails_its_budget_is_no_baseline_of_pytest_benchmark(project: Project):
    project.on_clock()
    assert gated(project, "min_speedup = 1000", "--benchmark-autosave")["outcome"] == "failed"
    assert gated(project, "min_speedup = 0.001", "--benchmark-autosave")["outcome"] == "passed"
    assert saved_entries(project) == [0, 2]


@pytest.mark.parametrize(
    ("budget", "says"),
    [
        ("min_speedup = 1000", "asked for at least 1000 (budget.min_speedup.cpu)"),
        ("max_p95_ms = 1e-6", "(budget.max_p95_ms.cpu); an absolute time"),
        ("min_throughput = 1e12", "(budget.min_throughput.cpu); an absolute time"),
        ("max_load_s = 1e-6", "(budget.max_load_s.cpu); an absolute time"),
    ],
)
def test_a_budget_that_is_not_met_goes_red(project: Project, budget: str, says: str):
    project.on_clock()
    check = gated(project, budget)
    assert check["outcome"] == "failed"
    assert says in check["reason"]
    assert check["measurement"]["seconds"] < 30  # a sure failure is not measured to the end


def test_the_previous_artefact_may_be_float16(project: Project):
    project.on_clock()
    project.manifest(
        """
        [models.net]
        factory = "nets.py:mlp"
        precisions = ["half"]
        baseline = { half = "old.onnx" }
        dims = { batch = [1] }
        latency = { seconds = 0.05 }
        inputs.x.shape = ["batch", 8]
        outputs.y.shape = ["batch", 4]
        [models.net.budget.half]
        max_regression = "100%"
        """
    )
    project.run("-m", "latency")  # the old one is missing
    files = (project.path / ".onnxcheck" / "net").rglob("*.onnx")
    (built,) = [file for file in files if "half" in str(file.relative_to(project.path))]
    shutil.copy(built, project.path / "old.onnx")
    project.run("-m", "latency")
    check = only_check(project)
    assert "baseline" in check["measurement"]["ratios"], check["reason"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memory is read from /proc")
def test_a_model_that_takes_more_memory_than_its_budget_goes_red(project: Project):
    (project.path / "nets.py").write_text(
        "from torch import nn\n\n"
        "def mlp():\n    return nn.Sequential(nn.Linear(8, 500_000), nn.Linear(500_000, 4)).eval()"
    )
    check = gated(project, "max_memory_mb = 20")
    assert check["outcome"] == "failed"
    assert "allowed 20 MB (budget.max_memory_mb.cpu)" in check["reason"]
    # 6.5 million float32 parameters
    assert 26e6 < check["measurement"]["memory_bytes"] < 150e6


@pytest.mark.parametrize("strict", [False, True])
def test_what_is_too_close_to_tell_warns_and_is_red_when_strict(project: Project, strict: bool):
    """The judge is given an interval about the limit."""
    project.on_clock(TIED)
    project.manifest(
        """
        [models.net]
        factory = "nets.py:mlp"
        dims = { batch = [1] }
        latency = { seconds = 0.2, longest = 0.3 }
        inputs.x.shape = ["batch", 8]
        outputs.y.shape = ["batch", 4]
        """
    )
    project.run("-m", "latency", *(["--onnxcheck-strict"] if strict else []))
    check = only_check(project)
    assert check["outcome"] == ("failed" if strict else "passed")
    assert check["grade"] == ("fail" if strict else "warn")
    assert check["findings"][0]["inconclusive"]
    assert "too close to tell after" in check["reason"]
    assert check["measurement"]["seconds"] >= 0.3


def test_an_int8_variant_that_is_slower_than_fp32_goes_red(project: Project):
    """Convolutions as ConvInteger, which `operators` has to ask for, on a clock where they lose."""
    project.on_clock(own=3e-3, other=2e-3)
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


def test_what_cannot_be_told_says_why_it_is_red(project: Project):
    project.on_clock(TIED)
    project.manifest(mlps("net") + SHORT)
    result = project.run("-m", "latency", "--onnxcheck-strict")
    assert "(red by --onnxcheck-strict)" in "\n".join(result.outlines)


def test_the_summary_survives_a_comparison_that_fails(project: Project):
    """pytest-benchmark raises in its own summary."""
    project.on_clock()
    project.manifest(mlps("net") + SHORT)
    assert project.run("-m", "latency", "--benchmark-autosave").ret == 0
    (path,) = saved_runs(project)
    faster = json.loads(path.read_text())
    for entry in faster["benchmarks"]:
        entry["stats"]["median"] /= 1000
    path.write_text(json.dumps(faster))
    result = project.run(
        *("-m", "latency", "--benchmark-compare", "--benchmark-compare-fail=median:50%")
    )
    assert result.ret != 0
    assert any(line.startswith("record: ") for line in result.outlines)


def test_a_check_that_fails_before_it_is_timed_is_all_that_is_told(project: Project):
    project.manifest(mlps("net") + SHORT, 'targets = ["cuda"]')
    result = project.run("-m", "latency", "--onnxcheck-require=cuda")
    assert result.ret == 1
    assert "Benchmark fixture was not used" not in "\n".join(result.outlines)
