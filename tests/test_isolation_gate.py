"""A model with limits has a process of its own: what crashes or hangs is a failed check."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
from isolation import BAD, MODEL, NETS, REASONS, endless, marked, none_left
from project import LEAN, mlps

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")


@pytest.fixture
def bad(project):
    """The project with models that misbehave, and a mark on all of its processes."""
    project.environ["ONNXCHECK_TEST"] = str(project.path)
    (project.path / "bad.py").write_text(NETS)
    endless(project.path / "endless.onnx")
    return project


def models(*names):
    return "".join(MODEL.format(name=name, keys=BAD[name]) for name in names)


def fell(project):
    """Node id of what failed, without the manifest -> its reason."""
    return {
        check["nodeid"].partition("::")[2]: check["reason"]
        for check in project.record["checks"]
        if check["outcome"] == "failed"
    }


def expect_all(project):
    """Every bad model fails one check for its reason, the healthy ones none."""
    failed = fell(project)
    assert len(failed) == len(BAD), failed
    for name, (check, reason) in REASONS.items():
        [(nodeid, found)] = [each for each in failed.items() if each[0].startswith(f"{name}::")]
        assert nodeid.endswith(f"::{check}")
        assert re.search(reason, found), found
    healthy = {
        nodeid: outcome
        for nodeid, outcome in project.outcomes().items()
        if nodeid.startswith(("first", "last"))
    }
    assert len(healthy) >= 6
    assert "failed" not in healthy.values()
    # what needs what failed does not fail for a second time, nor ends another process
    skipped = [check for check in project.record["checks"] if check["outcome"] == "skipped"]
    assert any("needs what failed in models.toml::loops" in check["reason"] for check in skipped)


def test_each_fails_for_its_own_reason_and_nothing_is_left(bad):
    bad.manifest(mlps("first") + models(*BAD) + mlps("last"), defaults="isolate = true\nmarks = []")
    bad.run("-m", "not latency")
    expect_all(bad)
    assert none_left(str(bad.path))


def test_what_was_measured_before_the_end_is_kept(bad):
    bad.manifest(models("runs-on"), defaults="isolate = true")
    bad.run("-m", "not latency")
    checks = {check["check"]: check for check in bad.record["checks"]}
    assert checks["structure"]["measurement"] is not None
    assert checks["equivalence"]["stages"]["comparing"] >= 1
    assert checks["equivalence"]["outcome"] == "failed"


def test_an_expected_end_is_an_expected_failure(bad):
    keys = BAD["aborts"] + '\nxfail = [{ reason = "known", checks = ["export"] }]'
    bad.manifest(MODEL.format(name="aborts", keys=keys), defaults="isolate = true")
    result = bad.run("-m", "export")
    assert result.ret == 0
    assert bad.outcomes() == {"aborts::torchscript-op17-fp32::test_export": "xfailed"}


def test_results_are_those_of_this_process(project):
    project.manifest(mlps("net"))
    project.on_clock()
    project.run("--benchmark-json=here.json")
    here, saved = project.record, json.loads((project.path / "here.json").read_text())
    result = project.run("--benchmark-json=there.json", "--onnxcheck-isolate")
    assert result.ret == 0
    there, moved = project.record, json.loads((project.path / "there.json").read_text())
    assert [check["nodeid"] for check in there["checks"]] == [
        check["nodeid"] for check in here["checks"]
    ]
    for one, other in zip(here["checks"], there["checks"], strict=True):
        assert (one["outcome"], one["grade"]) == (other["outcome"], other["grade"])
        assert keys(one) == keys(other)
    assert keys(moved["benchmarks"]) == keys(saved["benchmarks"])
    for one, other in zip(saved["benchmarks"], moved["benchmarks"], strict=True):
        for key in ("group", "name", "fullname", "params", "param", "options"):
            assert one[key] == other[key]
        assert len(one["stats"]["data"]) > 5


def keys(value):
    """What there is, without the numbers."""
    if isinstance(value, dict):
        return {key: keys(each) for key, each in value.items() if key not in ("stages", "data")}
    if isinstance(value, list):
        return [keys(each) for each in value[:1]]
    return type(value).__name__


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_nothing_outlives_pytest(bad, how):
    bad.manifest(models("loops").replace("exporting = 1", "exporting = 600"))
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *LEAN, "--onnxcheck", "--onnxcheck-json=record.json"],
        cwd=bad.path,
        env={**os.environ, **bad.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 100
    while len(marked(str(bad.path))) < 4 and time.monotonic() < until:
        time.sleep(0.1)  # pytest, the server, the model's, and the one that opens sessions
    assert len(marked(str(bad.path))) >= 4
    process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert none_left(str(bad.path))
    if how == "interrupt":
        assert "KeyboardInterrupt" in output
        assert "Traceback (most recent call last)" not in output


def test_the_first_failure_ends_the_run_where_that_is_asked_for(bad):
    bad.manifest(models("aborts") + mlps("net"), defaults="isolate = true")
    result = bad.run("-x", "-m", "export")
    assert list(bad.outcomes().values()) == ["failed"]
    result.stdout.fnmatch_lines(["*stopping after 1 failures*"])
    assert none_left(str(bad.path))


def test_a_model_that_ends_its_process_again_and_again_is_given_up(bad):
    keys = 'factory = "nets.py:mlp"'
    (bad.path / "conftest.py").write_text(
        "import os\n\n\ndef pytest_runtest_call(item):\n    if 'net' in item.nodeid:\n"
        "        os._exit(3)\n"
    )
    bad.manifest(MODEL.format(name="net", keys=keys), defaults="isolate = true")
    bad.run()
    outcomes = list(bad.outcomes().values())
    assert outcomes == ["failed"] * 3 + ["skipped"] * (len(outcomes) - 3)
    assert len(outcomes) > 3
    reason = bad.record["checks"][-1]["reason"]
    assert reason.startswith("given up: the model's process ended 3 times, in models.toml::net::")


def test_a_server_that_does_not_start_fails_one_check(bad):
    (bad.path / "conftest.py").write_text(
        "import os\n\n\ndef pytest_sessionstart(session):\n"
        "    if session.config.pluginmanager.has_plugin('onnxcheck-isolated'):\n"
        "        print('no licence', flush=True)\n        os._exit(4)\n"
    )
    bad.manifest(mlps("net"), defaults="isolate = true")
    bad.run("-m", "not latency")
    outcomes = list(bad.outcomes().values())
    assert outcomes == ["failed", "skipped", "skipped"]
    assert "crashed (exit status 4)" in bad.record["checks"][0]["reason"]


def test_with_a_debugger_models_run_in_this_process(project):
    project.manifest(mlps("net"))
    result = project.run("--pdb", "--onnxcheck-isolate", "-m", "export")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*--pdb: models are checked in this process, without limits*"])


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--onnxcheck-timeout=0", "*--onnxcheck-timeout: '0' is not above 0"),
        ("--onnxcheck-timeout=soon", "*--onnxcheck-timeout: 'soon' is not a number from 0 up"),
        ("--onnxcheck-memory=-1", "*--onnxcheck-memory: '-1' is not a number from 0 up"),
    ],
)
def test_a_limit_is_a_number_above_0(project, option, message):
    project.manifest(mlps("net"))
    result = project.run(option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines([message])
