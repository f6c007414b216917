"""A model with limits has a process of its own: what crashes or hangs is a failed check."""

from __future__ import annotations

import json
import re
import sys

import pytest
from isolation import REASONS, misbehaving, models, none_left
from project import mlps

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="isolation needs Linux")


@pytest.fixture
def bad(project):
    return misbehaving(project)


#: conftest of a project
WARNING = """

def pytest_runtest_call(item):
    import warnings

    warnings.warn("said by a check", FutureWarning)
"""


def test_a_crash_and_a_hang_in_a_given_file_are_failed_checks(bad):
    """A process of its own is what such a file has by default."""
    bad.manifest(
        models("runs-on") + models("aborts").replace("factory", "isolate = true\nfactory"),
        defaults="# isolate: default",
    )
    bad.run("-m", "export or equivalence")
    failed = {
        check["nodeid"].partition("::")[2]: check["reason"]
        for check in bad.record["checks"]
        if check["outcome"] == "failed"
    }
    assert failed.keys() == {
        "aborts::torchscript-op17-fp32::test_export",
        "runs-on::file-fp32::test_equivalence[cpu]",
    }
    assert re.search(REASONS["runs-on"][1], failed["runs-on::file-fp32::test_equivalence[cpu]"])
    assert none_left(str(bad.path))


def test_it_starts_where_warnings_are_errors(project):
    project.manifest(mlps("net"))
    (project.path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    assert project.run("--onnxcheck-isolate", "-m", "structure").ret == 0
    assert set(project.outcomes().values()) == {"passed"}


def test_results_are_those_of_this_process(project):
    """Its warnings are too."""
    project.manifest(mlps("net"))
    project.on_clock(WARNING)
    project.run("--benchmark-json=here.json")
    here, saved = project.record, json.loads((project.path / "here.json").read_text())
    result = project.run("--benchmark-json=there.json", "--onnxcheck-isolate")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*conftest.py:*: FutureWarning: said by a check"])
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
