"""All that can end a model's process, in every mode: `python -m tox run -e isolation`."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from isolation import BAD, MODEL, NETS, REASONS, holding, marked, misbehaving, models, none_left
from project import LEAN, mlps

if os.environ.get("ONNXCHECK_ISOLATION") != "required":
    pytest.skip("takes a minute: tox run -e isolation", allow_module_level=True)


@pytest.fixture
def bad(project):
    return misbehaving(project)


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


@pytest.mark.parametrize("workers", [(), ("-n", "2", "--dist", "loadscope")], ids=["one", "two"])
def test_each_fails_for_its_own_reason_and_nothing_is_left(bad, workers):
    bad.manifest(mlps("first") + models(*BAD) + mlps("last"), defaults="isolate = true")
    bad.run("-m", "not latency", *workers, fresh=True)
    expect_all(bad)
    assert none_left(str(bad.path))


def test_what_was_measured_before_the_end_is_kept(bad):
    bad.manifest(models("runs-on"), defaults="isolate = true")
    bad.run("-m", "not latency")
    checks = {check["check"]: check for check in bad.record["checks"]}
    assert checks["structure"]["measurement"] is not None
    assert checks["equivalence"]["stages"]["comparing"] >= 1
    assert checks["equivalence"]["outcome"] == "failed"


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_nothing_outlives_pytest(bad, how):
    """Not even what left its process group, and whose own parent has ended."""
    bad.manifest(models("forks").replace("= 1 }", "= 600 }"))
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *LEAN, "--onnxcheck", "--onnxcheck-json=record.json"],
        cwd=bad.path,
        env={**os.environ, **bad.environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 100
    while len(marked(str(bad.path))) < 5 and time.monotonic() < until:
        time.sleep(0.1)  # pytest, the server, the model's, its child and that one's
    assert len(marked(str(bad.path))) >= 5
    process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert none_left(str(bad.path))
    if how == "interrupt":
        assert "KeyboardInterrupt" in output
        assert "Traceback (most recent call last)" not in output


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


def test_an_expected_end_is_an_expected_failure(bad):
    keys = BAD["aborts"] + '\nxfail = [{ reason = "known", checks = ["export"] }]'
    bad.manifest(MODEL.format(name="aborts", keys=keys), defaults="isolate = true")
    result = bad.run("-m", "export")
    assert result.ret == 0
    assert bad.outcomes() == {"aborts::torchscript-op17-fp32::test_export": "xfailed"}


def test_the_first_failure_ends_the_run_where_that_is_asked_for(bad):
    bad.manifest(models("aborts") + mlps("net"), defaults="isolate = true")
    result = bad.run("-x", "-m", "export")
    # the record is unfinished
    result.stdout.fnmatch_lines(["*stopping after 1 failures*", "*= 1 failed, 8 deselected *"])
    assert none_left(str(bad.path))


def test_the_process_that_opens_sessions_may_hang_too(bad):
    """It is stopped, as one is that waits for a driver; what it was asked is not answered."""
    (bad.path / "conftest.py").write_text(
        "import os\nimport signal\n\n\ndef pytest_runtest_call(item):\n"
        "    from pytest_onnxcheck.engine.runtime import sandbox\n\n"
        "    if 'test_equivalence' in item.nodeid:\n"
        "        os.kill(sandbox._child.start().pid, signal.SIGSTOP)\n"
    )
    keys = 'factory = "nets.py:mlp"\ntimeout = { "opening a session" = 1 }'
    bad.manifest(MODEL.format(name="net", keys=keys))
    bad.run("-m", "export or equivalence or latency")
    [(nodeid, reason)] = fell(bad).items()
    assert nodeid == "net::torchscript-op17-fp32::test_equivalence[cpu]"
    assert re.match(r"opening a session \S+model\.onnx::cpu did not end within the 1 s", reason)
    skipped = [check["reason"] for check in bad.record["checks"] if check["check"] == "latency"]
    assert {reason.partition(" in ")[0] for reason in skipped} == {"needs what failed"}
    assert none_left(str(bad.path))


def test_what_a_model_leaves_running_is_ended_and_told(bad):
    (bad.path / "bad.py").write_text(
        NETS.replace(
            "def eats():",
            "def leaves():\n    os.fork() or time.sleep(600)\n    return mlp()\n\n\ndef eats():",
        )
    )
    bad.manifest(MODEL.format(name="net", keys='factory = "bad.py:leaves"\nisolate = true'))
    result = bad.run("-m", "export")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*the model left processes behind, which were ended: 1"])
    assert none_left(str(bad.path))


def test_another_server_takes_the_place_of_one_that_was_killed(bad):
    """Between two checks nobody notices; all that came from it ends."""
    (bad.path / "bad.py").write_text(
        f"{NETS}\n\ndef leaves():\n    if os.fork() == 0:\n        os.setsid()\n"
        "        time.sleep(600)\n    return mlp()\n"
    )
    (bad.path / "conftest.py").write_text(
        textwrap.dedent("""
            import os, signal, sys
            from pathlib import Path

            def pytest_runtest_logfinish(nodeid):
                here = "torch" not in sys.modules  # and not in the model's process
                if here and "first" in nodeid and "test_export" in nodeid:
                    found = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
                    [server] = map(int, found.split())
                    os.kill(server, signal.SIGKILL)
                    os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
        """)
    )
    leaves = mlps("first").replace("nets.py:mlp", "bad.py:leaves")
    bad.manifest(leaves + mlps("last"), defaults="isolate = true")
    result = bad.run("-m", "export or structure", fresh=True)
    assert result.ret == 0
    assert set(bad.outcomes().values()) == {"passed"}
    assert none_left(str(bad.path))


def test_given_files_that_never_end_or_hold_too_much_are_ended_by_default(bad):
    """Here a stage may take less, and the machine has less, than elsewhere."""
    (bad.path / "conftest.py").write_text(
        "from pytest_onnxcheck.plugin import limits\n\n"
        "limits._GIVEN_SECONDS, limits.total_memory = 8.0, lambda: 3_000_000_000\n"
    )
    holding(bad.path / "holds.onnx", 2**29)
    runs_on, holds = BAD["runs-on"].partition("timeout")[0], BAD["runs-on"].partition("onnx")[0]
    bad.manifest(
        MODEL.format(name="runs-on", keys=runs_on)
        + MODEL.format(name="holds", keys=f'{holds}onnx = "holds.onnx"')
        + mlps("net"),
        defaults="# isolate: default",
    )
    bad.run("-m", "equivalence")
    failed = fell(bad)
    assert failed.keys() == {
        f"{name}::file-fp32::test_equivalence[cpu]" for name in ("runs-on", "holds")
    }
    assert "did not end within the 10 s" in failed["runs-on::file-fp32::test_equivalence[cpu]"]
    assert "may hold 1500 MB" in failed["holds::file-fp32::test_equivalence[cpu]"]
    assert bad.outcomes()["net::torchscript-op17-fp32::test_equivalence[cpu]"] == "passed"
    assert none_left(str(bad.path))
