"""Targets in other environments through the whole gate; this interpreter stands for another's."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import numpy
import pytest
from project import Project, drifting, mlps

from pytest_onnxcheck.record.record import load
from pytest_onnxcheck.report.table import table_lines

THERE = f'[targets.there]\npython = "{sys.executable}"\n'
NEW = '[targets.new]\nenvironment = ["onnxruntime==0.0.1"]\n'
START = "net::torchscript-op17-fp32::test_"


def own_column(project: Project) -> list[str]:
    header, *rows = table_lines(load(project.path / "record.json").checks)
    return [row[header.index("there")] for row in rows]


def test_everything_that_a_target_is_asked_works_there(project: Project):
    azure = THERE.replace("targets.there", "targets.azure").strip()
    azure += '\nprovider = "AzureExecutionProvider"\n'
    limits = "budget.fp32.max_memory_mb = { there = 500 }\n"
    limits += "budget.fp32.max_load_s = { there = 60 }\n"
    text = mlps("net").replace("dims", f"{limits}dims", 1)
    project.manifest(
        THERE + azure + text,
        'targets = ["cpu", "there", "azure"]\nlatency = { seconds = 0.1, longest = 0.1 }',
    )
    project.run("-k", "target or equivalence or latency")
    outcomes = project.outcomes()
    assert outcomes.pop(f"{START}target[azure]") == "failed"  # its nodes fell to the CPU
    for point in ("azure-batch1", "azure-batch3"):
        assert outcomes.pop(f"{START}latency[{point}]") == "failed"
    assert set(outcomes.values()) == {"passed"}
    checks = {(one["check"], one["point"]): one for one in project.record["checks"]}
    here, there = (checks["equivalence", name]["measurement"] for name in ("cpu", "there"))
    assert there["target"] == "there"
    assert [one["outputs"] for one in there["cases"]] == [one["outputs"] for one in here["cases"]]
    assert checks["equivalence", "cpu"]["environment"] == {}
    assert checks["equivalence", "there"]["environment"]["numpy"] == numpy.__version__
    timed = checks["latency", "there-batch3"]["measurement"]
    assert set(timed["ratios"]) == {"torch", "kernel"}
    assert timed["load_interval"][0] < timed["load_interval"][1]
    assert timed["first_seconds"] > 0
    if sys.platform == "linux":
        assert 0 < timed["memory_bytes"] < 500e6
    assert own_column(project) == ["warn" if "warn" in _grades(checks, "there") else "pass"]


def _grades(checks: dict, target: str) -> set[str]:
    return {one["grade"] for one in checks.values() if one["target"] == target}


def test_a_quantized_artefact_is_timed_beside_the_fp32_one_there(project: Project):
    text = mlps("net").replace("dims", 'precisions = ["fp32", "int8-dynamic"]\ndims', 1)
    project.manifest(
        THERE + text, 'targets = ["there"]\nlatency = { seconds = 0.1, longest = 0.1 }'
    )
    project.run("-k", "latency and int8 and batch1")
    (found,) = project.record["checks"]
    assert set(found["measurement"]["ratios"]) == {"torch", "fp32", "kernel"}


@pytest.mark.parametrize("required", [False, True])
def test_where_no_environment_may_be_made_it_skips_unless_required(
    project: Project, required: bool
):
    needed = '\nrequired_targets = ["new"]' if required else ""
    project.manifest(NEW + mlps("net"), f'targets = ["cpu", "new"]{needed}')
    result = project.run("-k", "equivalence", "--onnxcheck-no-environments")
    assert result.ret == int(required)
    assert project.outcomes() == {
        f"{START}equivalence[cpu]": "passed",
        f"{START}equivalence[new]": "failed" if required else "skipped",
    }
    told = project.reason(f"{START}equivalence[new]")
    assert told.startswith("new: the environment of onnxruntime==0.0.1 is not in ")
    assert "(--onnxcheck-no-environments)" in told
    assert told.endswith("The manifest requires this target (required_targets).") is required


def test_an_environment_that_cannot_be_made_fails_once_and_the_rest_names_it(project: Project):
    """The installer is one that says no: uv, as it is found before pip."""
    uv = project.path / "bin" / "uv"
    uv.parent.mkdir()
    uv.write_text("#!/bin/sh\necho 'no onnxruntime==0.0.1 in the registry' >&2; exit 1\n")
    uv.chmod(uv.stat().st_mode | stat.S_IXUSR)
    if shutil.which("uv", path=str(Path(sys.executable).parent)):
        pytest.skip("uv is installed beside this interpreter")
    project.environ["PATH"] = f"{uv.parent}{os.pathsep}{os.environ['PATH']}"
    project.manifest(NEW + mlps("net"), 'targets = ["new"]')
    assert project.run("-k", "equivalence or latency").ret == 1
    first = f"{START}equivalence[new]"
    outcomes = project.outcomes()
    assert outcomes.pop(first) == "failed"
    assert set(outcomes.values()) == {"skipped"}
    assert project.reason(first) == (
        "new: the environment of onnxruntime==0.0.1 cannot be made by uv: no onnxruntime==0.0.1 in "
        "the registry; mend `environment`, name an interpreter (`python`), or use "
        "--onnxcheck-no-environments"
    )
    assert "needs what failed in" in project.reason(f"{START}latency[new-batch1]")


def test_an_interpreter_that_is_not_there_skips(project: Project):
    gone = '[targets.gone]\npython = ".venv-old/bin/python"\n'
    project.manifest(gone + mlps("net"), 'targets = ["gone"]')
    assert project.run("-k", "equivalence").ret == 0
    told = project.reason(f"{START}equivalence[gone]")
    assert told.startswith(f"gone: there is no interpreter {project.path}/.venv-old/bin/python.")


def test_a_repro_folder_compares_what_was_given_there(project: Project):
    project.manifest(THERE + drifting("net"), 'targets = ["there"]')
    assert project.run("-k", "equivalence").ret == 1
    (folder,) = (project.path / ".onnxcheck" / "repro" / "net").iterdir()
    command = [sys.executable, str(folder / "repro.py")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert "target there is another environment (python " in ran.stdout
    assert ran.stdout.rstrip().endswith("they differ")


#: notes when each latency check ran, and how many ticks the workers of the targets worked meanwhile
WATCHED = """
import json, time
from pathlib import Path
import pytest

def ticks():
    from pytest_onnxcheck.engine.runtime.remote import _known
    stats = {
        key[0]: Path(f"/proc/{found.child.start().pid}/stat").read_text().rpartition(")")[2].split()
        for key, found in _known.items()
    }
    return {python: int(stat[11]) + int(stat[12]) for python, stat in stats.items()}

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    before, began = ticks(), time.monotonic()
    result = yield
    ended, after = time.monotonic(), ticks()
    busy = {python: after[python] - before.get(python, 0) for python in after}
    with open("watched.jsonl", "a") as file:
        print(json.dumps([item.name, began, ended, busy]), file=file)
    return result
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_while_one_target_is_timed_the_others_rest(project: Project):
    other = project.path / "other-python"  # the same interpreter under a name of its own
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    other.chmod(other.stat().st_mode | stat.S_IXUSR)
    (project.path / "conftest.py").write_text(WATCHED)
    project.manifest(
        f'{THERE}[targets.other]\npython = "{other}"\n{mlps("net")}',
        'targets = ["cpu", "there", "other"]\nlatency = { seconds = 0.2, longest = 0.2 }',
    )
    assert project.run("-k", "equivalence or latency").ret == 0
    lines = (project.path / "watched.jsonl").read_text().splitlines()
    timed = [line for line in map(json.loads, lines) if line[0].startswith("test_latency")]
    assert len(timed) == 6
    for (_, _, ended, _), (_, began, _, _) in itertools.pairwise(timed):
        assert ended <= began
    for name, _, _, busy in timed:
        assert set(busy) == {sys.executable, str(other)}
        for python, target in ((sys.executable, "there"), (str(other), "other")):
            assert (busy[python] > 0) == name.startswith(f"test_latency[{target}-"), (name, busy)
