"""benchmarks/records.py tells what differs between two records, and forgives measured times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from project import Project, mlps

SCRIPT = Path(__file__).parent.parent / "benchmarks" / "records.py"


def compared(folder: Path, before: Any, after: Any) -> tuple[int, list[str]]:
    paths = []
    for name, record in (("before", before), ("after", after)):
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(record))
    done = subprocess.run(
        [sys.executable, SCRIPT, *paths], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout.splitlines()


def test_two_runs_are_the_same_until_something_but_a_time_changes(project: Project):
    project.on_clock()
    project.manifest(
        mlps("net"), 'precisions = ["fp32", "fp16"]\n[defaults.latency]\nseconds = 0.1'
    )
    assert project.run("--onnxcheck-artifacts=one").ret == 0
    before = project.record
    assert project.run("--onnxcheck-artifacts=other").ret == 0
    after = project.record
    status, lines = compared(project.path, before, after)
    assert (status, lines[-1].endswith(": 0 differences")) == (0, True)

    export = next(check for check in after["checks"] if check["check"] == "export")
    export["measurement"]["file"]["sha256"] = "0" * 64
    latency = next(check for check in after["checks"] if check["check"] == "latency")
    latency["outcome"] = "failed"
    gone = after["checks"].pop()
    status, lines = compared(project.path, before, after)
    assert status == 1
    assert len(lines) == 4
    assert any(f"{export['nodeid']}.measurement.file.sha256: " in line for line in lines)
    assert f'{latency["nodeid"]}.outcome: "passed", now "failed"' in lines
    assert any(line.startswith(gone["nodeid"]) and line.endswith("now gone") for line in lines)
