"""A run whose other processes are killed, or killed with it: `python -m tox run -e isolation`.

That what they leave is right at forty moments is measured by `tox run -e kills`.
"""

from __future__ import annotations

import os

import pytest
from cut_off import FP32, counting, run_checks
from isolation import misbehaving, models, none_left
from project import Project, mlps

from pytest_onnxcheck.record.record import load

if os.environ.get("ONNXCHECK_ISOLATION") != "required":
    pytest.skip("imports everything four times: tox run -e isolation", allow_module_level=True)


@pytest.fixture
def counted(project: Project) -> Project:
    """A project in which it is counted which checks are really run."""
    return counting(project)


def test_a_worker_that_is_killed_leaves_an_unfinished_record_and_another_is_handed_it(
    counted: Project,
):
    """Two workers, killed with pytest and without: `tox run -e kills`."""
    counted.manifest(mlps("one", "two"))
    worker = ("-n", "1", "--max-worker-restart=0")
    counted.environ |= {"KILL_AFTER": "5", "KILL_BY": "9"}
    result = counted.run(*worker)
    assert result.ret in (1, 2)
    result.stdout.fnmatch_lines(["unfinished record: *record.json (--onnxcheck-resume goes on*"])
    counted.environ.clear()
    made = run_checks(counted)
    record = load(counted.path / "record.json")
    assert {entry.nodeid.partition("::")[2] for entry in record.checks} >= {*made}
    assert (record.finished, record.selected) == (False, 10)
    assert counted.run("--onnxcheck-resume", *worker).ret == 0
    rest = run_checks(counted)
    assert not {*made} & {*rest}
    assert counted.outcomes().keys() == {*made, *rest}


def test_isolated_models_are_gone_on_with_and_what_ended_a_process_is_made_again(counted: Project):
    misbehaving(counted)
    counted.manifest(models("aborts") + mlps("one"), "[defaults.latency]\ndims = []")
    isolated = ("--onnxcheck-isolate", "--onnxcheck-cache=shared", "-k", "one or export")
    counted.environ |= {"KILL_AT": "test_equivalence[cpu]", "KILL_BY": "9", "KILL_WHOM": "main"}
    assert counted.run(*isolated).ret == -9
    assert none_left(str(counted.path))
    for name in ("KILL_AT", "KILL_BY", "KILL_WHOM"):
        del counted.environ[name]
    aborts, one = f"aborts::{FP32}::", f"one::{FP32}::"
    assert run_checks(counted) == [f"{one}test_export", f"{one}test_structure"]
    record = load(counted.path / "record.json")
    assert [(entry.nodeid.partition("::")[2], entry.outcome) for entry in record.checks] == [
        (f"{aborts}test_export", "failed"),
        (f"{one}test_export", "passed"),
        (f"{one}test_structure", "passed"),
    ]
    nets = counted.path / "bad.py"
    nets.write_text(nets.read_text().replace("os.abort()", "pass"))
    assert counted.run(*isolated, "--onnxcheck-resume").ret == 0
    assert run_checks(counted)[:2] == [f"{aborts}test_export", f"{one}test_equivalence[cpu]"]
    resumed = [check["resumed"] for check in counted.record["checks"]]
    assert resumed[:4] == [False, True, True, False]
